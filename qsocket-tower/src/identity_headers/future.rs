use crate::refusal::answer::response_future;

response_future!(IdentityHeaders);
