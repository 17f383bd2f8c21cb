//! Push rules. <https://spec.matrix.org/v1.19/client-server-api/#push-rules>

use ruma::{
    api::{
        client::push::{
            delete_pushrule, get_pushrule, get_pushrule_actions, get_pushrule_enabled, get_pushrules_all,
            get_pushrules_global_scope, set_pushrule, set_pushrule_actions, set_pushrule_enabled,
        },
        error::ErrorKind,
    },
    push::{AnyPushRule, RuleKind},
};

use crate::{
    api::{Error, User, caller::EvenSuspended},
    service::{
        App,
        push_rules::{self, Change, ChangeError},
    },
};

/// `GET /_matrix/client/v3/pushrules/`
pub(crate) async fn all(
    app: App,
    user: User,
    _request: get_pushrules_all::v3::Request,
) -> Result<get_pushrules_all::v3::Response, Error> {
    Ok(get_pushrules_all::v3::Response::new(push_rules::of(&app, &user).await?))
}

/// `GET /_matrix/client/v3/pushrules/global/`
pub(crate) async fn global(
    app: App,
    user: User,
    _request: get_pushrules_global_scope::v3::Request,
) -> Result<get_pushrules_global_scope::v3::Response, Error> {
    Ok(get_pushrules_global_scope::v3::Response::new(push_rules::of(&app, &user).await?))
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub(crate) async fn get(
    app: App,
    user: User,
    request: get_pushrule::v3::Request,
) -> Result<get_pushrule::v3::Response, Error> {
    let rule = find(&app, &user, of_path(request.kind), &request.rule_id).await?;
    Ok(get_pushrule::v3::Response::new(rule.into()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub(crate) async fn set(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: set_pushrule::v3::Request,
) -> Result<set_pushrule::v3::Response, Error> {
    let change = Change::Insert { rule: request.rule, after: request.after, before: request.before };
    push_rules::change(&app, &user, change).await?;
    Ok(set_pushrule::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub(crate) async fn remove(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: delete_pushrule::v3::Request,
) -> Result<delete_pushrule::v3::Response, Error> {
    push_rules::change(&app, &user, Change::Remove { kind: of_path(request.kind), id: request.rule_id })
        .await?;
    Ok(delete_pushrule::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub(crate) async fn is_enabled(
    app: App,
    user: User,
    request: get_pushrule_enabled::v3::Request,
) -> Result<get_pushrule_enabled::v3::Response, Error> {
    let rule = find(&app, &user, of_path(request.kind), &request.rule_id).await?;
    Ok(get_pushrule_enabled::v3::Response::new(rule.enabled()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub(crate) async fn set_enabled(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: set_pushrule_enabled::v3::Request,
) -> Result<set_pushrule_enabled::v3::Response, Error> {
    let change =
        Change::SetEnabled { kind: of_path(request.kind), id: request.rule_id, enabled: request.enabled };
    push_rules::change(&app, &user, change).await?;
    Ok(set_pushrule_enabled::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub(crate) async fn actions(
    app: App,
    user: User,
    request: get_pushrule_actions::v3::Request,
) -> Result<get_pushrule_actions::v3::Response, Error> {
    let rule = find(&app, &user, of_path(request.kind), &request.rule_id).await?;
    Ok(get_pushrule_actions::v3::Response::new(rule.actions().to_vec()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub(crate) async fn set_actions(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: set_pushrule_actions::v3::Request,
) -> Result<set_pushrule_actions::v3::Response, Error> {
    let change =
        Change::SetActions { kind: of_path(request.kind), id: request.rule_id, actions: request.actions };
    push_rules::change(&app, &user, change).await?;
    Ok(set_pushrule_actions::v3::Response::new())
}

/// The kind that a path names. ruma knows that of threads by another name than the proposal has.
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>
fn of_path(kind: RuleKind) -> RuleKind {
    if kind.as_str() == "postcontent" { RuleKind::PostContent } else { kind }
}

async fn find(app: &App, user: &User, kind: RuleKind, id: &str) -> Result<AnyPushRule, Error> {
    let rules = push_rules::of(app, user).await?;
    let rule = rules.get(kind, id).map(|rule| rule.to_owned());
    rule.ok_or_else(|| Error::not_found("You have no such push rule"))
}

impl From<ChangeError> for Error {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotFound => Self::not_found("You have no such push rule"),
            ChangeError::NoNeighbour => {
                Self::bad_request(ErrorKind::Unknown, "There is no push rule to stand before or after")
            }
            ChangeError::Refused(text) => Self::bad_request(ErrorKind::InvalidParam, text),
            ChangeError::TooLarge => Self::too_large("Your push rules would be too large"),
            ChangeError::Store(error) => error.into(),
        }
    }
}
