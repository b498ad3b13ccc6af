use std::time::Duration;

use tappaas_core::{ErrorKind, backend::BuildRequest};

use super::{Bench, BuilderFixture};
use crate::conformance::{Verdict, macros::ensure, name, verdict::refused};

/// `build` returns once the image is in the request's repository, whole.
pub async fn a_built_image_is_whole_in_its_repository(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let request = bench.good("1", "a", Duration::ZERO).await?;
    let outcome = bench.build(&request).await?;
    ensure!(
        outcome.image.repository == request.repository,
        "the image is {}",
        outcome.image
    );
    ensure!(
        outcome.processes.contains_key(&name("web")),
        "no process was found: {outcome:?}"
    );
    bench.is_whole(&outcome.image).await
}

/// The same key gives the same image digest, also in another repository, where it has to be built anew.
pub async fn the_same_key_gives_the_same_image(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let request = bench.good("1", "a", Duration::ZERO).await?;
    let first = bench.build(&request).await?;
    let elsewhere = BuildRequest {
        repository: "conformance/elsewhere".parse()?,
        ..with_id(&request, "2")
    };
    let second = bench.build(&elsewhere).await?;
    ensure!(
        first.image.digest == second.image.digest,
        "first it was {}, then {}",
        first.image,
        second.image
    );
    bench.is_whole(&second.image).await
}

/// A finished key is answered without building while its image is still in the repository.
pub async fn a_finished_key_is_answered_without_building(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let request = bench.good("1", "a", Duration::ZERO).await?;
    let first = bench.build(&request).await?;
    ensure!(!first.cached, "the first build was answered from a cache");
    for id in ["1", "2"] {
        let again = bench.build(&with_id(&request, id)).await?;
        ensure!(
            again.cached,
            "nothing changed, and it was built again: {again:?}"
        );
        ensure!(
            (&again.image, &again.processes) == (&first.image, &first.processes),
            "first it was {first:?}, from the cache {again:?}"
        );
    }
    Ok(())
}

/// A finished key whose image is gone is built again.
pub async fn a_finished_key_whose_image_is_gone_is_built_again(
    fixture: &dyn BuilderFixture,
) -> Verdict {
    let bench = Bench::new(fixture);
    let request = bench.good("1", "a", Duration::ZERO).await?;
    let first = bench.build(&request).await?;
    bench.discard(&first.image).await?;
    let second = bench.build(&with_id(&request, "2")).await?;
    ensure!(second.image == first.image, "it became {}", second.image);
    bench.is_whole(&second.image).await
}

/// Another source is another build and another image.
pub async fn another_source_is_another_image(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let one = bench.good("1", "a", Duration::ZERO).await?;
    let other = bench.good("2", "b", Duration::ZERO).await?;
    let (one, other) = (bench.build(&one).await?, bench.build(&other).await?);
    ensure!(
        one.image != other.image && !other.cached,
        "two sources became {} and {}",
        one.image,
        other.image
    );
    Ok(())
}

/// A stack that the builder does not have is `Invalid`.
pub async fn an_unknown_stack_is_refused(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let mut request = bench.good("1", "a", Duration::ZERO).await?;
    request.spec.stack = Some("no-such-stack".to_owned());
    let answer = bench.build(&request).await;
    refused(answer, ErrorKind::Invalid, "an unknown stack")
}

/// The same request under another id.
pub(super) fn with_id(request: &BuildRequest, id: &str) -> BuildRequest {
    BuildRequest {
        id: tappaas_core::backend::BuildId(id.to_owned()),
        ..request.clone()
    }
}
