//! Which user each application's processes run as.

use std::{collections::BTreeSet, sync::Arc};

use tappaas_core::{Batch, Durable, Error, ErrorKind, Result, model::ApplicationKey};

const TABLE: &str = "local.slots";
/// How the key of an application's row begins.
const OWNER: &[u8] = b"application/";

/// The ids of users that belong to applications, kept in the store: the same application gets the same ones again, and no two share one.
///
/// Slot `n` is user `200000 + n`, and for processes that are root in a user namespace of their own the 65,536 ids from
/// `2^28 + n × 65536`.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<dyn Durable>);

/// An application's place among the users of this machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slot(u32);

impl Slot {
    const COUNT: u32 = 16_384;

    /// The user that processes run as.
    pub(crate) fn user(self) -> u32 {
        200_000 + self.0
    }

    /// The user that root of a user namespace is.
    pub(crate) fn root(self) -> u32 {
        (1 << 28) + self.0 * crate::sandbox::User::RANGE
    }
}

impl Slots {
    pub(crate) fn new(durable: Arc<dyn Durable>) -> Self {
        Self(durable)
    }

    /// The slot of an application, taken now if it has none.
    ///
    /// # Errors
    /// `Exhausted` if all are taken.
    pub(crate) async fn take(&self, application: &ApplicationKey) -> Result<Slot> {
        let (owner, first) = (owner_key(application), preferred(application));
        for step in 0..Slot::COUNT {
            if let Some(slot) = self.find(application).await? {
                return Ok(slot);
            }
            let slot = Slot((first + step) % Slot::COUNT);
            let number = slot.0.to_string();
            let batch = Batch::new()
                .check(TABLE, &owner, None)
                .check(TABLE, &slot_key(slot), None)
                .put(TABLE, &owner, number.as_bytes())
                .put(TABLE, &slot_key(slot), application.to_string().as_bytes());
            match self.0.commit(batch).await {
                Ok(()) => return Ok(slot),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::exhausted(format!(
            "all {} users for applications are taken; destroy an application first",
            Slot::COUNT
        )))
    }

    /// Gives an application's slot back, once no file and no process of it is left.
    pub(crate) async fn release(&self, application: &ApplicationKey) -> Result<()> {
        let Some(slot) = self.find(application).await? else {
            return Ok(());
        };
        let number = slot.0.to_string();
        let batch = Batch::new()
            .check(TABLE, &owner_key(application), Some(number.as_bytes()))
            .delete(TABLE, &owner_key(application))
            .delete(TABLE, &slot_key(slot));
        match self.0.commit(batch).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            done => done,
        }
    }

    /// Every application that has a slot.
    pub(crate) async fn owners(&self) -> Result<BTreeSet<ApplicationKey>> {
        const ROWS_MAX: usize = 256;
        let (mut owners, mut after) = (BTreeSet::new(), None::<Vec<u8>>);
        loop {
            let rows = self.0.scan(TABLE, OWNER, after.as_deref(), ROWS_MAX);
            let rows = rows.await?;
            let keys = rows
                .iter()
                .filter_map(|row| std::str::from_utf8(row.key.strip_prefix(OWNER)?).ok());
            owners.extend(keys.filter_map(|key| key.parse().ok()));
            match rows.last() {
                Some(last) if rows.len() == ROWS_MAX => after = Some(last.key.clone()),
                _ => return Ok(owners),
            }
        }
    }

    async fn find(&self, application: &ApplicationKey) -> Result<Option<Slot>> {
        let Some(value) = self.0.get(TABLE, &owner_key(application)).await? else {
            return Ok(None);
        };
        let number = std::str::from_utf8(&value)
            .ok()
            .and_then(|text| text.parse().ok());
        let number = number.filter(|number| *number < Slot::COUNT);
        let damaged = || {
            Error::internal(format!(
                "the user of {application} cannot be read in table `{TABLE}`"
            ))
        };
        number.map(Slot).ok_or_else(damaged).map(Some)
    }
}

fn preferred(application: &ApplicationKey) -> u32 {
    let digest = tappaas_core::Digest::of(application.to_string());
    let head = u32::from_str_radix(&digest.hex()[..8], 16).expect("a digest is hexadecimal");
    head % Slot::COUNT
}

fn owner_key(application: &ApplicationKey) -> Vec<u8> {
    [OWNER, application.to_string().as_bytes()].concat()
}

fn slot_key(slot: Slot) -> Vec<u8> {
    format!("slot/{}", slot.0).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        Slots::new(Arc::new(tappaas_core::memory::Durable::new()))
    }

    fn application(number: usize) -> ApplicationKey {
        format!("default/default/production/app-{number}")
            .parse()
            .unwrap()
    }

    #[tokio::test]
    async fn no_two_applications_share_a_user_and_each_keeps_its_own() {
        let slots = slots();
        let mut taken = BTreeSet::new();
        for number in 0..600 {
            let slot = slots.take(&application(number)).await.unwrap();
            assert!(taken.insert(slot.user()), "{number}");
            assert!((200_000..300_000).contains(&slot.user()));
            assert!(
                slot.root() > 300_000
                    && slot
                        .root()
                        .checked_add(65_536)
                        .is_some_and(|end| end < i32::MAX as u32)
            );
        }
        assert!(taken.contains(&slots.take(&application(7)).await.unwrap().user()));
        let owners = slots.owners().await.unwrap();
        assert_eq!(owners, (0..600).map(application).collect());
    }

    #[tokio::test]
    async fn a_slot_given_back_is_free_for_its_application_and_others() {
        let slots = slots();
        let slot = slots.take(&application(1)).await.unwrap();
        slots.release(&application(1)).await.unwrap();
        slots.release(&application(1)).await.unwrap();
        assert_eq!(slots.take(&application(1)).await.unwrap(), slot);
    }
}
