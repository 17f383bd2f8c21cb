//! The DNS's messages, as far as a client needs them: one question, and its answer read without trust.
//! <https://www.rfc-editor.org/rfc/rfc1035#section-4>

use std::{net::IpAddr, str::FromStr};

use domain::{
    base::{
        Message, MessageBuilder, Name, ParsedName, Rtype,
        iana::{Class, Opcode, Rcode},
        rdata::ParseRecordData,
    },
    rdata::{A, Aaaa, Soa, Srv},
};

use super::{DnsError, Service};

/// One thing that is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    id: u16,
    name: Name<Vec<u8>>,
    kind: Rtype,
}

/// What the answer to a question says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Never empty; good for so many seconds.
    Found(Vec<Data>, u32),
    /// There is none; that is good for so many seconds.
    Absent(u32),
    /// It doesn't fit, and is to be asked for over TCP.
    Truncated,
    /// The server can't say, by its code.
    Failed(Rcode),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    Service(Service),
}

impl Question {
    /// # Errors
    /// It is no name that can be asked for.
    pub(super) fn new(id: u16, name: &str, kind: Rtype) -> Result<Self, DnsError> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_proper = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(is_proper) {
            return Err(DnsError::Malformed);
        }
        let name = Name::from_str(name).map_err(|_| DnsError::Malformed)?;
        Ok(Self { id, name, kind })
    }

    /// The message that asks it.
    pub(super) fn message(&self) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec().question();
        builder.header_mut().set_id(self.id);
        builder.header_mut().set_rd(true);
        builder.push((&self.name, self.kind)).expect("a vector has room for a question");
        builder.finish()
    }

    /// What a message says to it; none if the message is no answer to this question, whoever sent it.
    pub(super) fn reply(&self, message: &[u8]) -> Option<Reply> {
        let message = Message::from_slice(message).ok()?;
        let header = message.header();
        let asked = message.sole_question().ok()?;
        let is_of_this = header.qr()
            && (header.id(), header.opcode()) == (self.id, Opcode::QUERY)
            && (asked.qtype(), asked.qclass()) == (self.kind, Class::IN)
            && *asked.qname() == self.name;
        if !is_of_this {
            return None;
        }
        if header.tc() {
            return Some(Reply::Truncated);
        }
        match header.rcode() {
            Rcode::NOERROR | Rcode::NXDOMAIN => {}
            code => return Some(Reply::Failed(code)),
        }
        // From here on it is the answer, and an answer that can't be read says nothing.
        let found = match self.kind {
            Rtype::A => found(message, |data: A| Data::Address(data.addr().into())),
            Rtype::AAAA => found(message, |data: Aaaa| Data::Address(data.addr().into())),
            _ => found(message, service),
        };
        Some(found.unwrap_or(Reply::Failed(Rcode::FORMERR)))
    }
}

/// The records of one type that a message has for the name that was asked for, aliases followed.
fn found<'a, T: ParseRecordData<'a, [u8]>>(
    message: &'a Message<[u8]>,
    data: impl Fn(T) -> Data,
) -> Option<Reply> {
    let answers = message.answer().ok()?;
    let mut lifetime = u32::MAX;
    for record in answers {
        lifetime = lifetime.min(record.ok()?.ttl().as_secs());
    }
    if let Some(name) = message.canonical_name() {
        let mut found = Vec::new();
        for record in answers.limit_to_in::<T>() {
            let record = record.ok()?;
            if *record.owner() == name {
                found.push(data(record.into_data()));
            }
        }
        if !found.is_empty() {
            return Some(Reply::Found(found, lifetime));
        }
    }
    // https://www.rfc-editor.org/rfc/rfc2308#section-5
    let authority = message.authority().ok()?.limit_to_in::<Soa<ParsedName<&[u8]>>>().next();
    let Some(authority) = authority else { return Some(Reply::Absent(0)) };
    let authority = authority.ok()?;
    let lifetime = lifetime.min(authority.ttl().as_secs()).min(authority.data().minimum().as_secs());
    Some(Reply::Absent(lifetime))
}

fn service(data: Srv<ParsedName<&[u8]>>) -> Data {
    Data::Service(Service {
        priority: data.priority(),
        weight: data.weight(),
        port: data.port(),
        target: data.target().to_string().to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its name begins at 12 and ends at 25, its fields at 29.
    fn question(kind: Rtype) -> Question {
        Question::new(0x1234, "Example.org.", kind).unwrap()
    }

    /// The answer to a question, with these flags and records.
    fn answer(question: &Question, flags: u16, answers: &[&[u8]], authorities: &[&[u8]]) -> Vec<u8> {
        let mut message = question.message();
        message[2..4].copy_from_slice(&(0x8000 | flags).to_be_bytes());
        message[7] = answers.len() as u8;
        message[9] = authorities.len() as u8;
        [answers.concat(), authorities.concat()]
            .iter()
            .for_each(|records| message.extend_from_slice(records));
        message
    }

    fn record(name: &[u8], kind: Rtype, lifetime: u32, data: &[u8]) -> Vec<u8> {
        let fields = [kind.to_int().to_be_bytes(), 1u16.to_be_bytes()].concat();
        let length = (data.len() as u16).to_be_bytes();
        [name, &fields, &lifetime.to_be_bytes(), &length, data].concat()
    }

    /// The name of the question.
    const OWN: &[u8] = &[0xc0, 12];
    /// `org`, in the question.
    const ORG: &[u8] = &[0xc0, 20];

    fn addresses(addresses: &[&str]) -> Vec<Data> {
        addresses.iter().map(|address| Data::Address(address.parse().unwrap())).collect()
    }

    #[test]
    fn a_question_is_asked_as_the_standard_says() {
        let expected =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07Example\x03org\x00\x00\x1c\x00\x01";
        assert_eq!(question(Rtype::AAAA).message(), expected);
        for bad in ["", ".", "a..b", "a b", "é.org", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(Question::new(0, bad, Rtype::A).err(), Some(DnsError::Malformed), "{bad}");
        }
        assert!(Question::new(0, &format!("_a._tcp.{}", "a".repeat(63)), Rtype::A).is_ok());
    }

    #[test]
    fn records_are_found_through_aliases_for_the_shortest_time() {
        let question = question(Rtype::A);
        let plain = [record(OWN, Rtype::A, 300, &[1, 2, 3, 4]), record(OWN, Rtype::A, 200, &[5, 6, 7, 8])];
        let message = answer(&question, 0, &[&plain[0], &plain[1]], &[]);
        assert_eq!(question.reply(&message), Some(Reply::Found(addresses(&["1.2.3.4", "5.6.7.8"]), 200)));

        let alias = record(OWN, Rtype::CNAME, 60, &[&b"\x03WWW"[..], ORG].concat());
        let other = record(b"\x05other\x00", Rtype::A, 90, &[9, 9, 9, 9]);
        let target = record(&[&b"\x03www"[..], ORG].concat(), Rtype::A, 300, &[1, 2, 3, 4]);
        let message = answer(&question, 0, &[&target, &other, &alias], &[]);
        assert_eq!(question.reply(&message), Some(Reply::Found(addresses(&["1.2.3.4"]), 60)));

        let circle = record(OWN, Rtype::CNAME, 60, OWN);
        assert_eq!(question.reply(&answer(&question, 0, &[&circle], &[])), Some(Reply::Absent(0)));
    }

    #[test]
    fn services_are_read() {
        let question = question(Rtype::SRV);
        let data = [&[0, 10, 0, 5, 0x21, 0][..], b"\x06Matrix", ORG].concat();
        let message = answer(&question, 0, &[&record(OWN, Rtype::SRV, 60, &data)], &[]);
        let target = "matrix.org".to_owned();
        let service = Service { priority: 10, weight: 5, port: 8448, target };
        assert_eq!(question.reply(&message), Some(Reply::Found(vec![Data::Service(service)], 60)));
        let none = record(OWN, Rtype::SRV, 60, &[0, 0, 0, 0, 0, 0, 0]);
        let Some(Reply::Found(found, _)) = question.reply(&answer(&question, 0, &[&none], &[])) else {
            panic!("a service that is not there is said")
        };
        assert!(matches!(&found[0], Data::Service(Service { target, .. }) if target.is_empty()), "{found:?}");
    }

    #[test]
    fn absence_is_good_for_as_long_as_the_authority_says() {
        let question = question(Rtype::AAAA);
        let data = [&[0][..], &[0], &[0; 16], &60u32.to_be_bytes()].concat();
        let authority = record(ORG, Rtype::SOA, 900, &data);
        for (flags, authorities, expected) in [
            (3, vec![&authority[..]], Reply::Absent(60)),
            (0, vec![&authority[..]], Reply::Absent(60)),
            (3, vec![], Reply::Absent(0)),
            (2, vec![], Reply::Failed(Rcode::SERVFAIL)),
            (5, vec![&authority[..]], Reply::Failed(Rcode::REFUSED)),
        ] {
            let message = answer(&question, flags, &[], &authorities);
            assert_eq!(question.reply(&message), Some(expected));
        }
        assert_eq!(question.reply(&answer(&question, 0x0200, &[], &[])), Some(Reply::Truncated));
    }

    #[test]
    fn only_the_answer_to_the_question_is_read() {
        let question = question(Rtype::A);
        let good = answer(&question, 0, &[&record(OWN, Rtype::A, 60, &[1, 2, 3, 4])], &[]);
        assert!(matches!(question.reply(&good), Some(Reply::Found(..))));
        // Its id, that it is an answer, its operation, its questions, their name, type and class.
        for place in [0, 1, 2, 5, 13, 20, 26, 28] {
            let mut other = good.clone();
            other[place] ^= if place == 2 { 0x80 } else { 0x13 };
            assert_eq!(question.reply(&other), None, "{place}");
        }
        let mut other = good.clone();
        other[2] |= 0x08;
        assert_eq!(question.reply(&other), None);
    }

    #[test]
    fn no_message_breaks_the_reader() {
        let question = question(Rtype::A);
        let good = answer(&question, 0, &[&record(OWN, Rtype::A, 60, &[1, 2, 3, 4])], &[]);
        for length in 0..good.len() {
            assert!(!matches!(question.reply(&good[..length]), Some(Reply::Found(..))), "{length}");
        }
        for (name, what) in [
            (&[0xc0, 29][..], "a name that goes on at itself"),
            (&[0xc0, 200], "a name that goes on later"),
            (&[0x41, 1], "a label of no known kind"),
        ] {
            let message = answer(&question, 0, &[&record(name, Rtype::A, 60, &[1, 2, 3, 4])], &[]);
            assert_eq!(question.reply(&message), Some(Reply::Failed(Rcode::FORMERR)), "{what}");
        }
        let short = answer(&question, 0, &[&record(OWN, Rtype::A, 60, &[1, 2, 3])], &[]);
        assert_eq!(question.reply(&short), Some(Reply::Failed(Rcode::FORMERR)));
        let many = answer(&question, 0, &[], &[]);
        let many = [&many[..6], &[0xff, 0xff], &many[8..]].concat();
        assert_eq!(question.reply(&many), Some(Reply::Failed(Rcode::FORMERR)));
    }
}
