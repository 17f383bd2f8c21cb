//! The parameters of a URL or a form. <https://datatracker.ietf.org/doc/html/rfc6749#appendix-B>

use std::fmt;

use url::form_urlencoded;

/// Names and values, in the order in which they were given.
#[derive(Default)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The value of a parameter; none if it is missing, empty, or there more than once.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = values.next().filter(|value| !value.is_empty())?;
        if values.next().is_none() { Some(value) } else { None }
    }

    /// The parameters as a query, but for one of them.
    pub fn without(&self, name: &str) -> String {
        written(self.0.iter().filter(|(other, _)| other != name))
    }
}

/// As a query, of ASCII alone.
impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(&self.0))
    }
}

fn written<'a>(parameters: impl IntoIterator<Item = &'a (String, String)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// A text as a value in the query of a URL.
pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_has_one_value_or_none() {
        let parameters = Parameters::parse(b"a=1%202+3&b=&c=1&c=1&d&%FF=x&prompt=create");
        let got = ["a", "b", "c", "d", "e"].map(|name| parameters.get(name));
        assert_eq!(got, [Some("1 2 3"), None, None, None, None]);
        assert_eq!(Parameters::parse(b"a=%26&prompt=create&b=1").without("prompt"), "a=%26&b=1");
        assert_eq!(Parameters::parse("a=ä b&&c".as_bytes()).to_string(), "a=%C3%A4+b&c=");
    }
}
