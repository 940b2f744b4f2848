//! How much of something one tenant may have at once, so that the others have theirs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Semaphore;

use crate::control::token::Bearer;

/// A part for each tenant. The operator has no part of its own: it is one, and what is left is its.
#[derive(Clone)]
pub(super) struct Shares {
    most: usize,
    of: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

impl Shares {
    /// So many for each.
    pub(super) fn new(most: usize) -> Self {
        Self { most, of: Arc::default() }
    }

    /// What this bearer takes from. It is forgotten when nobody of theirs has any or waits for it.
    pub(super) fn of(&self, bearer: &Bearer) -> Arc<Semaphore> {
        let Bearer::Tenant(tenant) = bearer else { return Arc::new(Semaphore::new(self.most)) };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = of.get(tenant).and_then(Weak::upgrade) {
            return present;
        }
        of.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.most));
        of.insert(tenant.clone(), Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_its_own_part_and_the_operator_is_not_limited() {
        let shares = Shares::new(1);
        let tenant = |name: &str| Bearer::Tenant(name.to_owned());
        let taken = shares.of(&tenant("a")).try_acquire_owned().unwrap();
        assert!(shares.of(&tenant("a")).try_acquire_owned().is_err());
        assert!(shares.of(&tenant("b")).try_acquire_owned().is_ok());
        let _operator = shares.of(&Bearer::Operator).try_acquire_owned().unwrap();
        assert!(shares.of(&Bearer::Operator).try_acquire_owned().is_ok());
        drop(taken);
        assert!(shares.of(&tenant("a")).try_acquire_owned().is_ok());
        assert_eq!(shares.of.lock().unwrap().len(), 1, "who has nothing is forgotten");
    }
}
