//! The one transaction that is needed: change a key if it is as it was read.

use tonic::Status;

use crate::{
    client::Client,
    messages::{
        Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, TXN,
        TxnRequest, TxnResponse,
    },
};

/// What became of a change.
#[derive(Debug)]
pub(crate) enum Committed {
    /// It happened, with this revision.
    Done(i64),
    /// It did not: the key is like this by now.
    TooLate(Option<KeyValue>),
}

/// To put a value, with a lease unless that is 0.
pub(crate) fn put(key: &[u8], value: impl Into<Vec<u8>>, lease: i64) -> RequestOp {
    RequestOp {
        request_put: Some(PutRequest {
            key: key.to_vec(),
            value: value.into(),
            lease,
        }),
        ..RequestOp::default()
    }
}

/// To remove a key.
pub(crate) fn removal(key: &[u8]) -> RequestOp {
    RequestOp {
        request_delete_range: Some(DeleteRangeRequest { key: key.to_vec() }),
        ..RequestOp::default()
    }
}

impl Client {
    /// Changes a key if it still has the revision that it was read with; 0 is that of a key that is not there.
    pub(crate) async fn commit(
        &self,
        key: &[u8],
        expected: i64,
        change: RequestOp,
    ) -> Result<Committed, Status> {
        let unchanged = Compare {
            target: Compare::MOD,
            key: key.to_vec(),
            mod_revision: Some(expected),
        };
        let now = RangeRequest {
            key: key.to_vec(),
            ..RangeRequest::default()
        };
        let now = RequestOp {
            request_range: Some(now),
            ..RequestOp::default()
        };
        let transaction = TxnRequest {
            compare: vec![unchanged],
            success: vec![change],
            failure: vec![now],
        };
        let answer: TxnResponse = self.call(&TXN, transaction).await?;
        if answer.succeeded {
            return Ok(Committed::Done(answer.header.unwrap_or_default().revision));
        }
        let found = answer.responses.into_iter().next();
        let found = found.and_then(|response| response.response_range);
        Ok(Committed::TooLate(
            found.and_then(|range| range.kvs.into_iter().next()),
        ))
    }
}
