//! Encryption to a public key whose other half isn't here, in [age's format](https://c2sp.org/age). What is written so, age's
//! own programs read as well.
//!
//! The randomness is the operating system's: the library takes no other.

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    iter,
    str::FromStr,
};

use age::{DecryptError, Decryptor, Encryptor, stream::StreamWriter, x25519};

/// A public key, `age1…`. What is encrypted to it, its [`Identity`] decrypts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(x25519::Recipient);

/// Keys that decrypt, as a file of `age-keygen` has them.
pub struct Identity(Vec<x25519::Identity>);

/// What is encrypted while it is written. It must be [finished](StreamWriter::finish), or else it is broken.
pub type Sealing<W> = StreamWriter<W>;

/// Why a text is no key. The operator reads it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("must be a public key of age, `age1...`, as `age-keygen` prints it")]
    Recipient,
    #[error("holds no key of age: name the file that `age-keygen` wrote")]
    Identity,
}

/// Why something can't be decrypted.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("it is encrypted to another key")]
    NotMine,
    #[error("it is not what was encrypted")]
    Broken,
    #[error(transparent)]
    Io(io::Error),
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        text.parse().map(Self).map_err(|_| KeyError::Recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Recipient {
    /// Encrypts what is written to it.
    ///
    /// # Errors
    /// `to` can't be written to.
    pub fn seal<W: Write>(&self, to: W) -> io::Result<Sealing<W>> {
        let recipients = iter::once(&self.0 as &dyn age::Recipient);
        Encryptor::with_recipients(recipients).expect("one key is enough").wrap_output(to)
    }
}

impl FromStr for Identity {
    type Err = KeyError;

    fn from_str(file: &str) -> Result<Self, KeyError> {
        let lines = file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<_> = lines.map(str::parse).collect::<Result<_, _>>().map_err(|_| KeyError::Identity)?;
        if keys.is_empty() { Err(KeyError::Identity) } else { Ok(Self(keys)) }
    }
}

impl Identity {
    /// Decrypts what is read. What is not as it was written, or ends too soon, is an error of the kinds `InvalidData` or
    /// `UnexpectedEof` while it is read.
    ///
    /// # Errors
    /// It was encrypted to another key, or its beginning is broken.
    pub fn open<R: BufRead>(&self, from: R) -> Result<impl Read + use<R>, OpenError> {
        let failed = |error| match error {
            DecryptError::NoMatchingKeys => OpenError::NotMine,
            DecryptError::Io(error) if !is_broken(&error) => OpenError::Io(error),
            _ => OpenError::Broken,
        };
        let decryptor = Decryptor::new_buffered(from).map_err(failed)?;
        decryptor.decrypt(self.0.iter().map(|key| key as &dyn age::Identity)).map_err(failed)
    }

    /// Decrypts a text of at most `limit` bytes.
    ///
    /// # Errors
    /// It was encrypted to another key, is broken or longer.
    pub fn open_text(&self, text: &[u8], limit: u64) -> Result<Vec<u8>, OpenError> {
        let mut opened = Vec::new();
        self.open(text)?.take(limit + 1).read_to_end(&mut opened).map_err(|_| OpenError::Broken)?;
        if opened.len() as u64 > limit { Err(OpenError::Broken) } else { Ok(opened) }
    }
}

/// Whether reading failed because of what was read.
pub fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_alone() {
        let recipient: Recipient = RECIPIENT.parse().unwrap();
        assert_eq!(recipient.to_string(), RECIPIENT);
        let file = format!("# created: today\n# public key: {RECIPIENT}\n{IDENTITY}\n");
        let identity: Identity = file.parse().unwrap();
        let text = vec![7; 200_000];
        let mut sealing = recipient.seal(Vec::new()).unwrap();
        sealing.write_all(&text).unwrap();
        let sealed = sealing.finish().unwrap();
        assert!(sealed.starts_with(b"age-encryption.org/v1\n-> X25519 "));
        assert_eq!(identity.open_text(&sealed, 200_000).unwrap(), text);
        assert!(matches!(identity.open_text(&sealed, 199_999), Err(OpenError::Broken)));

        let other: Identity = OTHER_IDENTITY.parse().unwrap();
        assert!(matches!(other.open_text(&sealed, 200_000), Err(OpenError::NotMine)));
        let both: Identity = format!("{OTHER_IDENTITY}\n{IDENTITY}").parse().unwrap();
        assert_eq!(both.open_text(&sealed, 200_000).unwrap(), text);

        for length in [0, 10, 100, 190, sealed.len() / 2, sealed.len() - 1] {
            let cut = identity.open_text(&sealed[..length], 200_000);
            assert!(matches!(cut, Err(OpenError::Broken)), "{length}");
        }
        for at in [0, 40, 190, sealed.len() / 2, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(identity.open_text(&changed, 200_000).is_err(), "{at}");
        }
    }

    /// Written by another program: `echo hello | age -r RECIPIENT`.
    #[test]
    fn what_age_wrote_opens() {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let sealed = BASE64_STANDARD.decode(OF_AGE.concat()).unwrap();
        let identity: Identity = IDENTITY.parse().unwrap();
        assert_eq!(identity.open_text(&sealed, 100).unwrap(), b"hello\n");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "age1", &RECIPIENT[..60], &RECIPIENT.replace('q', "p"), IDENTITY, "ssh-ed25519 AAAA"]
        {
            assert_eq!(text.parse::<Recipient>(), Err(KeyError::Recipient), "{text}");
        }
        for text in ["", "# a remark", RECIPIENT, &IDENTITY[..70], &format!("{IDENTITY}\nAGE-PLUGIN-X-1")] {
            assert_eq!(text.parse::<Identity>().err(), Some(KeyError::Identity), "{text}");
        }
    }

    /// Of age's own tests.
    const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
    const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
    const OTHER_IDENTITY: &str = "AGE-SECRET-KEY-15FRJ050AQLFYHRCL9E0AFK26A7ES0N4TCLL62JQU3SUS0P4SNT6QZFMPM7";
    const OF_AGE: [&str; 3] = [
        "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBBcmdmL3d2Ylp5ZlJpWFhXb2luUit2SklXUWdZcm8rSFBjZVFBSWVmY0VV",
        "CnBQU0xlODhuYWNtb0d3VVB4amhWb2EzYTk4cGxGeWtZK3BSUk1tY1RDMVkKLS0tIFNkNHZjQ1NsZGE3cXVhbmozR2Zvb3djdkJV",
        "czFMcWZMb3ZlRkg3R2Zld2cKNK5HknIZ6ld3084h0/BwR4PItCvVsXfoQPWOtniiM+fow/4exk8=",
    ];
}
