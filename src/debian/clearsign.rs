//! The cleartext signature framework (RFC 9580 §7), as InRelease uses it.
//!
//! Strict where leniency has hurt before: nothing may stand before, between or after the two blocks, so that what a
//! verifier checks and what we read are the same bytes.

const BEGIN_MESSAGE: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &[u8] = b"-----END PGP SIGNATURE-----";

/// A text and the signature that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clearsigned<'a> {
    /// The text as it was signed: without armor, dash-escapes and trailing blanks, and without a line feed at its
    /// end (RFC 9580 §7.2). A verifier takes it as a detached text document.
    pub text: Vec<u8>,
    /// The armored signature.
    pub signature: &'a [u8],
}

/// Why a body is not a clearsigned text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a clearsigned text: {0}")]
pub struct ClearsignError(&'static str);

impl<'a> Clearsigned<'a> {
    /// Takes a clearsigned body apart. Nothing is verified.
    ///
    /// # Errors
    /// [`ClearsignError`] for a body that is not one signed message from its first byte to its last.
    pub fn parse(body: &'a [u8]) -> Result<Self, ClearsignError> {
        let rest = match next_line(body) {
            Some((BEGIN_MESSAGE, rest)) => rest,
            _ => return Err(ClearsignError("it does not begin with a signed message")),
        };
        let rest = skip_headers(rest)?;
        let (text, signature) = unescape(rest)?;
        check_signature(signature)?;
        Ok(Self { text, signature })
    }
}

/// The first line without its end and without trailing blanks, and what follows it.
fn next_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let (line, rest) = match memchr::memchr(b'\n', text) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    Some((line.trim_ascii_end(), rest))
}

/// Only `Hash` headers are allowed, then one empty line (RFC 9580 §7).
fn skip_headers(mut text: &[u8]) -> Result<&[u8], ClearsignError> {
    while let Some((line, rest)) = next_line(text) {
        text = rest;
        if line.is_empty() {
            return Ok(text);
        }
        if !line.starts_with(b"Hash: ") {
            return Err(ClearsignError("it has a header other than Hash"));
        }
    }
    Err(ClearsignError("it ends in its headers"))
}

/// The signed text (RFC 9580 §7.1 and 7.2) and what begins at the signature.
fn unescape(mut text: &[u8]) -> Result<(Vec<u8>, &[u8]), ClearsignError> {
    let mut out = Vec::with_capacity(text.len());
    let mut first = true;
    while let Some((line, rest)) = next_line(text) {
        if line == BEGIN_SIGNATURE {
            return Ok((out, text));
        }
        let line = match line.strip_prefix(b"- ") {
            Some(escaped) => escaped,
            // A lone dash is an escaped empty line whose trailing blank is cut.
            None if line == b"-" => b"",
            None if line.starts_with(b"-") => {
                return Err(ClearsignError("it has a line with an unescaped dash"));
            }
            None => line,
        };
        if !std::mem::replace(&mut first, false) {
            out.push(b'\n');
        }
        out.extend_from_slice(line);
        text = rest;
    }
    Err(ClearsignError("it has no signature"))
}

fn check_signature(mut block: &[u8]) -> Result<(), ClearsignError> {
    let mut inside = false;
    while let Some((line, rest)) = next_line(block) {
        block = rest;
        match line {
            BEGIN_SIGNATURE if !inside => inside = true,
            END_SIGNATURE if block.trim_ascii().is_empty() => return Ok(()),
            _ if line.starts_with(b"-") => {
                return Err(ClearsignError("something stands after its signature"));
            }
            _ => {}
        }
    }
    Err(ClearsignError("its signature has no end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: x  \n- - dash\n\nlast\n\
        -----BEGIN PGP SIGNATURE-----\n\niQ==\n=abcd\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn the_text_is_what_was_signed() {
        let signed = Clearsigned::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(signed.text, b"Origin: x\n- dash\n\nlast");
        assert!(signed.signature.starts_with(BEGIN_SIGNATURE));
        let dos = GOOD.replace('\n', "\r\n");
        assert_eq!(Clearsigned::parse(dos.as_bytes()).unwrap().text, signed.text);
    }

    #[test]
    fn what_is_not_one_whole_message_is_refused() {
        let captive_portal = "<html>please log in</html>".to_owned();
        for bad in [
            captive_portal,
            String::new(),
            format!("x\n{GOOD}"),
            format!("\n{GOOD}"),
            format!("{GOOD}x\n"),
            format!("{GOOD}{GOOD}"),
            GOOD.replace("- - dash", "- dash\n-dash"),
            GOOD.replace("Hash: SHA256", "NotDashEscaped: yes"),
            GOOD.replace("-----END PGP SIGNATURE-----\n", ""),
            GOOD[..GOOD.find("-----BEGIN PGP SIGNATURE").unwrap()].to_owned(),
            GOOD.replace("=abcd", "-----BEGIN PGP SIGNED MESSAGE-----"),
        ] {
            assert!(Clearsigned::parse(bad.as_bytes()).is_err(), "accepted:\n{bad}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(
            text in "(-----BEGIN PGP SIGNED MESSAGE-----\\n|Hash: a\\n|\\n|- a|-|-----BEGIN PGP SIGNATURE-----\\n|x|-----END PGP SIGNATURE-----){0,12}",
        ) {
            let _ = Clearsigned::parse(text.as_bytes());
        }
    }
}
