//! What of the two ways a cluster serves.

use kube::Client;
use serde_json::Value;
use tappaas_core::{Error, Result, backend::IngressCapabilities};

use super::{IngressSettings, form::Form, http_route::GROUP};
use crate::failure::{failure, is, within};

/// Where in the description of the Gateway API the statuses are that redirects may have.
const STATUSES: &str = "/properties/spec/properties/rules/items/properties/filters/items/properties/requestRedirect/properties/statusCode/enum";

/// The way that the settings name and the cluster serves, the Gateway API first.
pub(super) async fn form(client: &Client, settings: &IngressSettings) -> Result<Form> {
    let (gateway, class) = (settings.gateway.clone(), settings.class.clone());
    if gateway.is_none() && class.is_none() {
        return Err(Error::invalid(
            "routes need a Gateway, or an ingress class: name either",
        ));
    }
    if let Some(gateway) = gateway
        && has(client, &format!("{GROUP}/v1"), "HTTPRoute").await?
    {
        let redirects = redirects(client).await?;
        return Ok(Form::Gateway { gateway, redirects });
    }
    let Some(class) = class else {
        return Err(Error::unsupported(format!(
            "the cluster does not serve HTTPRoute of {GROUP}/v1: install the Gateway API, or name an ingress class"
        )));
    };
    match has(client, "networking.k8s.io/v1", "Ingress").await? {
        true => Ok(Form::Ingress { class }),
        false => Err(Error::unsupported(
            "the cluster does not serve Ingress of networking.k8s.io/v1",
        )),
    }
}

async fn has(client: &Client, version: &str, kind: &str) -> Result<bool> {
    match within(client.list_api_group_resources(version)).await {
        Ok(found) => Ok(found.resources.iter().any(|found| found.kind == kind)),
        Err(error) if is(&error, 404) => Ok(false),
        Err(error) => Err(failure(
            format!("cannot see what of {version} is served"),
            error,
        )),
    }
}

/// The statuses that the served `HTTPRoute` lets redirects have: newer versions know more.
async fn redirects(client: &Client) -> Result<Vec<u16>> {
    let doing = format!("cannot read the description of {GROUP}/v1");
    let request = http::Request::get(format!("/openapi/v3/apis/{GROUP}/v1"))
        .body(Vec::new())
        .map_err(|error| Error::internal(doing.clone()).with_source(error))?;
    let description: Value = within(client.request(request))
        .await
        .map_err(|error| failure(doing, error))?;
    Ok(statuses(&description))
}

/// None if the description does not say.
fn statuses(description: &Value) -> Vec<u16> {
    let schemas = description.pointer("/components/schemas");
    let schemas = schemas.and_then(Value::as_object).into_iter().flatten();
    let route = schemas
        .filter(|(name, _)| name.ends_with(".v1.HTTPRoute"))
        .find_map(|(_, schema)| schema.pointer(STATUSES)?.as_array());
    let mut statuses: Vec<u16> = route
        .into_iter()
        .flatten()
        .filter_map(|status| u16::try_from(status.as_u64()?).ok())
        .filter(|status| IngressCapabilities::REDIRECTS.contains(status))
        .collect();
    statuses.sort_unstable();
    statuses
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_statuses_of_redirects_are_read_from_the_description() {
        let mut route = json!({});
        let (mut at, path) = (&mut route, STATUSES.trim_start_matches('/'));
        for step in path.split('/') {
            at = &mut at[step];
        }
        *at = json!([301, 308, 302, 303]);
        let of = |name: &str| json!({ "components": { "schemas": { name: route } } });
        assert_eq!(
            statuses(&of("io.k8s.networking.gateway.v1.HTTPRoute")),
            [301, 302, 308]
        );
        assert!(statuses(&of("io.k8s.networking.gateway.v1beta1.HTTPRoute")).is_empty());
        assert!(statuses(&json!({})).is_empty());
    }
}
