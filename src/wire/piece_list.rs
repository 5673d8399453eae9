//! The answer to `GET /hash/<64 hex>/pieces`.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::digest;

/// The longest answer that is read: the list of a 32 GiB object, ten times the largest package of the archive.
pub const MAX_PIECE_LIST_BYTES: usize = 640 << 10;

/// The most runs of pieces that `have` may name; a list of a real holder has few.
const MAX_RUNS: usize = 8192;

/// The piece length of this version of the protocol, in bytes.
const PIECE_LENGTH: u64 = 4 << 20;

/// A piece-hash list and the pieces that would be served now, as one peer tells another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceListMessage {
    /// The object's length in bytes.
    pub length: u64,
    /// The inner states, each as 32 big-endian bytes, `None` where not known yet.
    pub states: Vec<Option<[u8; 32]>>,
    /// Runs of pieces that would be served now.
    pub have: Vec<RangeInclusive<u32>>,
    /// What a node of the local network is about to do about what it does not have.
    pub intent: Option<Intent>,
}

/// How a node that is downloading an object stands to the mirror, for those of its local network that want it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It asks around first.
    Undecided,
    /// It takes what another gets from the mirror.
    Follows,
    /// It gets the object from the mirror, in order, and has come so far, in bytes.
    Walks(u64),
}

/// A message that is not what docs/protocol.md says.
#[derive(Debug, thiserror::Error)]
pub enum PieceListProblem {
    /// Longer than [`MAX_PIECE_LIST_BYTES`].
    #[error("a piece list of more than {MAX_PIECE_LIST_BYTES} bytes")]
    TooLong,
    /// Not the JSON document of the protocol.
    #[error("not a piece list: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Another piece length than the protocol's.
    #[error("a piece length of {0} bytes where the protocol has {PIECE_LENGTH}")]
    PieceLength(u64),
    /// A state that is not 64 hexadecimal digits.
    #[error("state {0} of the piece list is not 64 hexadecimal digits")]
    State(usize),
    /// A `have` that is not a list of numbers and runs.
    #[error("the runs of pieces in `have` cannot be read")]
    Have,
}

#[derive(Serialize, Deserialize)]
struct Document {
    length: u64,
    piece_length: u64,
    states: Vec<Option<String>>,
    have: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mirror: Option<String>,
}

impl Intent {
    /// What is not understood is as good as nothing said: it comes from a later version.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "undecided" => Some(Self::Undecided),
            "follows" => Some(Self::Follows),
            bytes if bytes.bytes().all(|byte| byte.is_ascii_digit()) => bytes.parse().ok().map(Self::Walks),
            _ => None,
        }
    }

    fn print(self) -> String {
        match self {
            Self::Undecided => "undecided".to_owned(),
            Self::Follows => "follows".to_owned(),
            Self::Walks(bytes) => bytes.to_string(),
        }
    }
}

impl PieceListMessage {
    /// Reads the JSON document.
    ///
    /// # Errors
    /// [`PieceListProblem`] names what is not as the protocol says.
    pub fn from_json(json: &[u8]) -> Result<Self, PieceListProblem> {
        if json.len() > MAX_PIECE_LIST_BYTES {
            return Err(PieceListProblem::TooLong);
        }
        let document: Document = serde_json::from_slice(json)?;
        if document.piece_length != PIECE_LENGTH {
            return Err(PieceListProblem::PieceLength(document.piece_length));
        }
        let states = document.states.iter().enumerate().map(|(at, state)| match state {
            None => Ok(None),
            Some(hex) => digest::parse_hex(hex).map(Some).ok_or(PieceListProblem::State(at)),
        });
        Ok(Self {
            length: document.length,
            states: states.collect::<Result<_, _>>()?,
            have: parse_runs(&document.have).ok_or(PieceListProblem::Have)?,
            intent: document.mirror.as_deref().and_then(Intent::parse),
        })
    }

    /// The JSON document.
    pub fn to_json(&self) -> String {
        let spell = |state: &[u8; 32]| digest::Sha256::new(*state).to_string();
        let document = Document {
            length: self.length,
            piece_length: PIECE_LENGTH,
            states: self.states.iter().map(|state| state.as_ref().map(spell)).collect(),
            have: print_runs(&self.have),
            mirror: self.intent.map(Intent::print),
        };
        serde_json::to_string(&document).unwrap_or_default()
    }
}

fn parse_runs(text: &str) -> Option<Vec<RangeInclusive<u32>>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut runs = Vec::new();
    for run in text.split(',') {
        let (start, end) = run.split_once('-').unwrap_or((run, run));
        let (start, end) = (number(start)?, number(end)?);
        if start > end || runs.len() == MAX_RUNS {
            return None;
        }
        runs.push(start..=end);
    }
    Some(runs)
}

/// Digits and nothing else; the library's parser takes a sign too.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn print_runs(runs: &[RangeInclusive<u32>]) -> String {
    let spell = |run: &RangeInclusive<u32>| match (run.start(), run.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    };
    runs.iter().map(spell).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> PieceListMessage {
        let (states, have) = (vec![Some([7; 32]), None], vec![0..=0, 2..=2]);
        PieceListMessage { length: 9_000_000, states, have, intent: None }
    }

    #[test]
    fn what_a_node_is_about_to_do_is_read_as_it_is_written_and_rubbish_is_ignored() {
        for intent in [Intent::Undecided, Intent::Follows, Intent::Walks(0), Intent::Walks(9_000_000)] {
            let told = PieceListMessage { intent: Some(intent), ..message() };
            assert_eq!(PieceListMessage::from_json(told.to_json().as_bytes()).unwrap(), told);
        }
        let odd = message().to_json().replace("\"have\"", "\"mirror\":\"sleeps\",\"have\"");
        assert_eq!(PieceListMessage::from_json(odd.as_bytes()).unwrap(), message());
    }

    #[test]
    fn the_document_is_as_the_protocol_writes_it() {
        let expected = format!(
            r#"{{"length":9000000,"piece_length":4194304,"states":["{}",null],"have":"0,2"}}"#,
            "07".repeat(32)
        );
        assert_eq!(message().to_json(), expected);
        assert_eq!(PieceListMessage::from_json(expected.as_bytes()).unwrap(), message());
    }

    #[test]
    fn runs_are_written_short() {
        assert_eq!(print_runs(&[0..=11, 14..=14]), "0-11,14");
        assert_eq!(parse_runs("0-11,14"), Some(vec![0..=11, 14..=14]));
        assert_eq!(parse_runs(""), Some(vec![]));
        for wrong in ["+5", "5-3", "a", "1-", "-", "1,,2", "4294967296"] {
            assert_eq!(parse_runs(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_problem_is_named() {
        let wrong = |from: &str, to: &str| {
            let json = message().to_json().replace(from, to);
            PieceListMessage::from_json(json.as_bytes()).unwrap_err().to_string()
        };
        assert!(wrong("4194304", "1048576").contains("1048576"));
        assert!(wrong("0707", "zz07").contains("state 0"));
        assert!(wrong("\"0,2\"", "\"2-0\"").contains("have"));
        assert!(wrong("length", "size").contains("not a piece list"));
        let huge = vec![b' '; MAX_PIECE_LIST_BYTES + 1];
        assert!(matches!(PieceListMessage::from_json(&huge), Err(PieceListProblem::TooLong)));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = PieceListMessage::from_json(&bytes);
        }
    }
}
