//! One request of a browser: where it is on this server, which browser it is and who is signed in with it.
//!
//! A form counts only if the browser's own page sent it: a proof that follows from the cookie stands in it, and the
//! browser doesn't say that it comes from elsewhere. No page may be framed, kept, or told to whoever it leads to.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, REFERRER_POLICY,
        SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use url::{Url, form_urlencoded};

use super::{html::Html, sign_in};
use crate::{
    api::{
        Body, Error, Inbound,
        page::{STYLE, digest},
    },
    base::limits,
    service::{
        App,
        oauth::{self, Parameters, browsers},
    },
    store::{SignedIn, StoreError},
};

/// A request to a page.
pub(super) struct Visit {
    pub(super) app: App,
    pub(super) query: Parameters,
    pub(super) form: Parameters,
    /// What the browser's cookie holds.
    pub(super) cookie: String,
    pub(super) who: Option<SignedIn>,
    /// The path and the query, as the browser asked for them.
    pub(super) here: String,
    /// The path at which this server begins.
    prefix: String,
    is_secure: bool,
    /// How long the browser is to keep the cookie, if it gets one.
    cookie_goes: Option<&'static str>,
}

/// Why a page isn't shown.
pub(super) enum Refusal {
    /// Another one is.
    Shown(Box<Response<Body>>),
    Failed(Error),
}

impl Visit {
    /// Finds out who visits; a form must be of one of the browser's own pages.
    pub(super) async fn begin(app: App, request: Request<Inbound>) -> Result<Self, Refusal> {
        let base =
            oauth::base(&app).and_then(|base| Url::parse(base).ok()).ok_or_else(Error::unrecognized)?;
        let (head, body) = request.into_parts();
        let is_secure = base.scheme() == "https";
        let known = cookie(&head.headers, name(is_secure));
        let is_new = known.is_none();
        let cookie = known.unwrap_or_else(|| browsers::new_cookie(&app));
        let who = if is_new { None } else { browsers::find(&app, &cookie).await? };
        let is_form = head.method == Method::POST;
        let form = match body {
            Inbound::Whole(body) if is_form => Parameters::parse(&body),
            _ => Parameters::default(),
        };
        let is_own = !is_new
            && is_from_here(&head.headers, &base)
            && form.get("proof") == Some(&*browsers::proof_of_form(&cookie));
        let query = head.uri.query().unwrap_or_default();
        let visit = Self {
            query: Parameters::parse(query.as_bytes()),
            here: format!("{}?{query}", head.uri.path()),
            prefix: base.path().trim_end_matches('/').to_owned(),
            cookie_goes: is_new.then_some(WITH_BROWSER),
            app,
            form,
            cookie,
            who,
            is_secure,
        };
        if is_form && !is_own {
            let title = "This form can’t be used";
            let why = "It was not sent by a page of this server, or your browser keeps no cookies.";
            let html = Html::default().paragraph("Go back, load the page again and send the form once more.");
            return Err(visit.problem(StatusCode::FORBIDDEN, title, why, html).into());
        }
        Ok(visit)
    }

    /// Who is signed in; whoever isn't is asked to, and comes back.
    pub(super) fn signed_in(&self) -> Result<&SignedIn, Refusal> {
        self.who.as_ref().ok_or_else(|| {
            let next = format!("{}{}", self.prefix, self.here);
            self.redirect(&self.path_with_next(sign_in::PATH, Some(&next))).into()
        })
    }

    /// The browser has another cookie from now on.
    pub(super) fn set_cookie(&mut self, cookie: String, is_signed_in: bool) {
        self.cookie = cookie;
        self.cookie_goes = Some(if is_signed_in { KEPT } else { WITH_BROWSER });
    }

    /// A path of this server, as a browser finds it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// A path of this server from which the visitor goes on to where they wanted to go.
    pub(super) fn path_with_next(&self, path: &str, next: Option<&str>) -> String {
        match next {
            Some(next) => {
                let query =
                    form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
                format!("{}{path}?{query}", self.prefix)
            }
            None => self.path(path),
        }
    }

    /// Where the visitor wanted to go: a page of this server and nothing else.
    pub(super) fn next(&self) -> Option<&str> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        let next = self.query.get("next").filter(|next| next.bytes().all(plain))?;
        next.strip_prefix(&self.prefix)?.starts_with("/oauth/").then_some(next)
    }

    /// What a form of this browser must hold.
    pub(super) fn proof(&self) -> String {
        browsers::proof_of_form(&self.cookie)
    }

    /// Sends the browser elsewhere.
    pub(super) fn redirect(&self, to: &str) -> Response<Body> {
        let mut response = Response::new(Body::Whole(Default::default()));
        *response.status_mut() = StatusCode::SEE_OTHER;
        // Every URL that comes here is of printable ASCII.
        if let Ok(to) = HeaderValue::from_str(to) {
            response.headers_mut().insert(LOCATION, to);
        }
        self.guard(&mut response, "");
        response
    }

    /// A page.
    pub(super) fn page(&self, title: &str, html: Html) -> Response<Body> {
        self.page_to(title, html, "")
    }

    /// A page whose form may lead elsewhere than to this server.
    pub(super) fn page_to(&self, title: &str, html: Html, target: &str) -> Response<Body> {
        self.shown(StatusCode::OK, title, "", html, target)
    }

    /// A page again, with what was wrong.
    pub(super) fn problem(
        &self,
        status: StatusCode,
        title: &str,
        problem: &str,
        html: Html,
    ) -> Response<Body> {
        self.shown(status, title, problem, html, "")
    }

    fn shown(
        &self,
        status: StatusCode,
        title: &str,
        problem: &str,
        html: Html,
        target: &str,
    ) -> Response<Body> {
        let text = html.page(self.app.server_name.as_str(), title, problem);
        let mut response = Response::new(Body::Whole(text.into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        self.guard(&mut response, target);
        response
    }

    fn guard(&self, response: &mut Response<Body>, target: &str) {
        let headers = response.headers_mut();
        let policy = format!(
            "default-src 'none'; style-src {}; form-action 'self' {target}; frame-ancestors 'none'; base-uri 'none'",
            digest(STYLE)
        );
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        for (name, value) in GUARDS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(goes) = self.cookie_goes {
            let (name, secure) = (name(self.is_secure), if self.is_secure { "; Secure" } else { "" });
            let cookie = format!("{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}{goes}", self.cookie);
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                headers.insert(SET_COOKIE, cookie);
            }
        }
    }
}

/// What the router is answered.
pub(super) fn answered(outcome: Result<Response<Body>, Refusal>) -> Result<Response<Body>, Error> {
    match outcome {
        Ok(response) => Ok(response),
        Err(Refusal::Shown(response)) => Ok(*response),
        Err(Refusal::Failed(error)) => Err(error),
    }
}

impl From<Response<Body>> for Refusal {
    fn from(response: Response<Body>) -> Self {
        Self::Shown(Box::new(response))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// The name of the cookie. The first can't be set for this server by another of its domain.
fn name(is_secure: bool) -> &'static str {
    if is_secure { "__Host-tayberry" } else { "tayberry" }
}

/// What the cookie of this name holds.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(other, _)| *other == name)?;
    browsers::is_cookie(value).then(|| value.to_owned())
}

/// Whether the browser doesn't say that a form came from elsewhere. Where no referrer is told, its origin isn't either.
fn is_from_here(headers: &HeaderMap, base: &Url) -> bool {
    match headers.get(SEC_FETCH_SITE) {
        Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none"),
        None => headers
            .get(ORIGIN)
            .is_none_or(|origin| origin == "null" || *origin == *base.origin().ascii_serialization()),
    }
}

/// Headers of all pages.
const GUARDS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
];
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Until the browser is closed.
const WITH_BROWSER: &str = "";
/// As long as somebody is signed in.
const KEPT: &str = "; Max-Age=1209600";
const _: () = assert!(limits::BROWSER_LIFETIME.as_secs() == 1_209_600);
