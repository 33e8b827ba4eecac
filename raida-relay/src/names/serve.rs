//! Calls about names: from bytes to the registry and back.

use super::{NamesFailed, Question, Reading, Registry, Subject};
use qsocket_proto::call::{Service, Status};
use qsocket_proto::ids::Principal;
use qsocket_proto::names::{PutName, RenewName, Standing, decode_name};

/// Whether a service is about names.
pub(crate) fn is_about_names(service: Service) -> bool {
    matches!(
        service,
        Service::Resolve
            | Service::PutName
            | Service::RenewName
            | Service::WithdrawName
            | Service::DescribeName
    )
}

impl Registry {
    /// Answers a call about names. `knows` says whether the relay knows a principal.
    pub(crate) async fn serve(
        &self,
        service: Service,
        caller: Principal,
        body: &[u8],
        knows: impl Fn(Principal) -> bool,
    ) -> Result<Result<Vec<u8>, Status>, NamesFailed> {
        let standing = |done: Result<Standing, Status>| done.map(|standing| standing.encode());
        Ok(match service {
            Service::Resolve => return self.answer(body).await,
            Service::PutName => match PutName::decode(body) {
                Ok(put) => standing(self.put(caller, &put, knows).await?),
                Err(_) => Err(Status::Malformed),
            },
            Service::RenewName => match RenewName::decode(body) {
                Ok(renew) => standing(self.renew(caller, &renew).await?),
                Err(_) => Err(Status::Malformed),
            },
            Service::WithdrawName => match decode_name(body) {
                Ok(name) => self.withdraw(Some(caller), &name).await?.map(|_| Vec::new()),
                Err(_) => Err(Status::Malformed),
            },
            Service::DescribeName => match decode_name(body) {
                Ok(name) => Ok(self.describe(caller, &name).await?.encode()),
                Err(_) => Err(Status::Malformed),
            },
            _ => Err(Status::NoSuchService),
        })
    }

    /// The answer to a message of the DNS.
    async fn answer(&self, message: &[u8]) -> Result<Result<Vec<u8>, Status>, NamesFailed> {
        let question = match Question::read(message) {
            Reading::Question(question) => question,
            Reading::Answer(answer) => return Ok(Ok(answer)),
            Reading::NoMessage => return Ok(Err(Status::Malformed)),
        };
        let record = match question.subject() {
            Subject::Name(name) => self.resolve(name).await?,
            Subject::Number(number) => self.resolve_number(number).await?,
            Subject::Zone => None,
        };
        Ok(Ok(question.answer(record.as_ref())))
    }
}
