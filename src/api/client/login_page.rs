//! The page on which somebody logs in whose client knows none of the ways.
//! <https://spec.matrix.org/v1.19/client-server-api/#login-fallback>

use http::Response;

use crate::{
    api::{
        Body, Error,
        page::{Html, Page, Sent},
    },
    base::parameters::encoded,
    service::{App, upstream},
};

/// `GET /_matrix/static/client/login/`
pub(crate) async fn page(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    // Somebody who comes back from a provider comes back to this page, with what the client asked of it.
    let own = format!("{}?{}", upstream::own_client(&app), sent.query.without("loginToken"));
    let start = upstream::base_path(&app);
    let mut html = Html::default().mark(FORM);
    for provider in &app.upstream {
        let url = format!(
            "{start}/_matrix/client/v3/login/sso/redirect/{}?redirectUrl={}",
            provider.id.0,
            encoded(&own)
        );
        html = html.way(&url, &format!("Continue with {}", provider.name));
    }
    Ok(Page { script: SCRIPT, ..Page::new("Sign in", html) }.answer())
}

pub(crate) const PATHS: &[&str] = &["/_matrix/static/client/login/", "/_matrix/static/client/login"];

const FORM: &str = concat!(
    "<p id=\"told\" role=\"status\"></p><form id=\"form\" method=\"post\">",
    "<label for=\"user\">User name</label>",
    "<input id=\"user\" required autocapitalize=\"none\" autocomplete=\"username\" spellcheck=\"false\">",
    "<label for=\"password\">Password</label>",
    "<input id=\"password\" type=\"password\" required autocomplete=\"current-password\">",
    "<button>Sign in</button></form>",
);

/// Hands what `/login` answers to `matrixLogin.onLogin`, once the client has put that there. What the page was asked for
/// beside credentials goes to `/login`.
const SCRIPT: &str = r#"(function () {
  var own = window.matrixLogin = window.matrixLogin || {};
  var query = new URLSearchParams(location.search), told = document.getElementById("told");
  function give(answer) {
    if (own.onLogin) { told.textContent = ""; own.onLogin(answer); } else { setTimeout(give, 100, answer); }
  }
  function logIn(body) {
    ["device_id", "initial_device_display_name"].forEach(function (name) {
      if (query.has(name)) { body[name] = query.get(name); }
    });
    if (query.get("refresh_token") === "true") { body.refresh_token = true; }
    told.textContent = "Signing in";
    fetch(location.pathname.replace(/_matrix\/static\/.*/, "_matrix/client/v3/login"), { method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body) }).then(function (response) {
      return response.json().then(function (answer) {
        if (!response.ok) { throw new Error(answer.error); }
        told.textContent = "Signed in";
        give(answer);
      });
    }).catch(function (error) { told.textContent = error.message; });
  }
  document.getElementById("form").addEventListener("submit", function (event) {
    event.preventDefault();
    logIn({ type: "m.login.password",
      identifier: { type: "m.id.user", user: document.getElementById("user").value },
      password: document.getElementById("password").value });
  });
  if (query.has("loginToken")) {
    var token = query.get("loginToken");
    query.delete("loginToken");
    history.replaceState(null, "", "?" + query);
    logIn({ type: "m.login.token", token: token });
  }
})();"#;
