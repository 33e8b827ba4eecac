//! What the services of all layers have.

macro_rules! inner_service_accessors {
    () => {
        /// The service within.
        pub fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The service within.
        pub fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// Gives the service within back.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}

pub(crate) use inner_service_accessors;
