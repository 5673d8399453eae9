//! Release signatures, checked by apt's own verifiers: `gpgv` (Debian up to 12, Ubuntu) or `sqv` (Debian 13).
//!
//! The text and the signature are given to them apart, as our own strict reader took them, so that they cannot
//! disagree with us about what was signed.

use super::keyring;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// How long a verifier may take. It takes some 20 ms.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of a verifier's words is read, in bytes: some 300 for each signature.
const MAX_WORDS: u64 = 64 << 10;

/// What signatures decide (`mirrors.verify_signatures`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verification {
    /// A bad signature teaches nothing; one that cannot be checked does no harm.
    #[default]
    Auto,
    /// Only a good signature teaches.
    Enforce,
    /// Signatures are not looked at.
    Off,
}

/// What a verifier says of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A key of ours made it for this text.
    Good,
    /// A key of ours made it, and not for this text; or the key was revoked.
    Bad,
    /// No key of ours that is still valid made it: nothing is known.
    UnknownKey,
    /// There is no verifier here, or it did not answer in time.
    NoVerifier,
}

/// Checks signatures against the keyrings of apt.
#[derive(Debug)]
pub struct Verifier {
    keyrings: Vec<PathBuf>,
    /// Where files for the verifier are written, each time into a folder of its own.
    scratch: PathBuf,
    programs: Vec<PathBuf>,
    patience: Duration,
}

impl Verifier {
    /// A verifier with the keys in `keyrings` (files, or directories of `*.gpg` and `*.asc`, read at each check),
    /// which writes its passing files below `scratch`.
    pub fn new(keyrings: Vec<PathBuf>, scratch: PathBuf) -> Self {
        // gpgv first, because it tells apart what sqv only says in prose.
        let folders = ["/usr/bin", "/bin", "/usr/local/bin"];
        let programs =
            ["gpgv", "sqv"].iter().flat_map(|name| folders.map(|folder| Path::new(folder).join(name)));
        Self { keyrings, scratch, programs: programs.collect(), patience: PATIENCE }
    }

    /// Checks the armored or binary `signature` of `text`. It takes 5 s at most.
    pub async fn check(&self, text: &[u8], signature: &[u8]) -> Outcome {
        let Some(program) = self.programs.iter().find(|program| program.is_file()) else {
            return Outcome::NoVerifier;
        };
        let folder = match self.scratch(text.to_vec(), signature.to_vec()).await {
            Ok(folder) => folder,
            Err(error) => {
                tracing::warn!(%error, folder = %self.scratch.display(), "cannot write files for the signature check");
                return Outcome::NoVerifier;
            }
        };
        // gpgv has keyrings of its own where it is given none, and sqv refuses to run.
        if folder.keyrings.is_empty() {
            return Outcome::UnknownKey;
        }
        let sqv = program.ends_with("sqv");
        let mut command = Command::new(program);
        command.args(if sqv { folder.for_sqv() } else { folder.for_gpgv() });
        match tokio::time::timeout(self.patience, run(command)).await {
            Ok(Ok(said)) if sqv => said.of_sqv(),
            Ok(Ok(said)) => said.of_gpgv(),
            Ok(Err(error)) => {
                tracing::warn!(%error, program = %program.display(), "cannot run the signature verifier");
                Outcome::NoVerifier
            }
            Err(_) => {
                tracing::warn!(program = %program.display(), "the signature verifier does not answer");
                Outcome::NoVerifier
            }
        }
    }

    async fn scratch(&self, text: Vec<u8>, signature: Vec<u8>) -> io::Result<Scratch> {
        let (parent, keyrings) = (self.scratch.clone(), self.keyrings.clone());
        tokio::task::spawn_blocking(move || Scratch::new(&parent, &text, &signature, &keyrings))
            .await
            .map_err(io::Error::other)?
    }
}

/// A folder with the files of one check, removed with it.
struct Scratch {
    folder: PathBuf,
    keyrings: Vec<PathBuf>,
}

impl Scratch {
    fn new(parent: &Path, text: &[u8], signature: &[u8], keyrings: &[PathBuf]) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        let mut scratch = Self { folder: new_folder(parent)?, keyrings: Vec::new() };
        scratch.write("text", text)?;
        scratch.write("signature", signature)?;
        scratch.keyrings = keyring::gather(keyrings, &scratch.folder)?;
        Ok(scratch)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(self.folder.join(name))?.write_all(bytes)
    }

    fn for_gpgv(&self) -> Vec<OsString> {
        // SHA-1 is what apt refuses too. Clocks may differ: apt says that in its own words.
        let mut args: Vec<OsString> =
            ["--status-fd", "1", "--weak-digest", "SHA1", "--ignore-time-conflict", "--homedir"]
                .map(Into::into)
                .into();
        args.push(self.folder.clone().into());
        self.with_files(args)
    }

    fn for_sqv(&self) -> Vec<OsString> {
        self.with_files(vec!["--verbose".into()])
    }

    fn with_files(&self, mut args: Vec<OsString>) -> Vec<OsString> {
        for keyring in &self.keyrings {
            args.extend(["--keyring".into(), keyring.clone().into()]);
        }
        args.extend(["signature", "text"].map(|name| self.folder.join(name).into()));
        args
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is empty or a few kilobytes, and nobody could do anything about it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Makes a folder that only we can read. What is there already is passed over: in a shared directory it could be
/// somebody else's, and after a crash it could be ours from before.
fn new_folder(parent: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("aptpeer-verify-{}-{nth}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "every name for a temporary folder is taken"))
}

/// What a verifier printed, and whether it was content.
struct Said {
    success: bool,
    words: String,
}

async fn run(mut command: Command) -> io::Result<Said> {
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (out, err) = tokio::join!(words(stdout), words(stderr));
    let success = child.wait().await?.success();
    let words = [out?, err?].concat();
    Ok(Said { success, words: String::from_utf8_lossy(&words).into_owned() })
}

/// What comes out of a pipe, up to the limit; the rest is thrown away so that the writer comes to its end.
async fn words(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut words = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(MAX_WORDS).read_to_end(&mut words).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(words)
}

impl Said {
    /// The status lines are those of GnuPG's doc/DETAILS.
    fn of_gpgv(&self) -> Outcome {
        let said = |status: &str| {
            let lines = self.words.lines().filter_map(|line| line.strip_prefix("[GNUPG:] "));
            lines.filter_map(|line| line.split(' ').next()).any(|word| word == status)
        };
        if said("BADSIG") || said("REVKEYSIG") {
            Outcome::Bad
        } else if said("GOODSIG") && said("VALIDSIG") {
            Outcome::Good
        } else {
            Outcome::UnknownKey
        }
    }

    fn of_sqv(&self) -> Outcome {
        if self.success {
            Outcome::Good
        } else if self.words.contains("manipulated")
            || self.words.to_ascii_lowercase().contains("bad signature")
        {
            Outcome::Bad
        } else {
            Outcome::UnknownKey
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_gpgv_are_understood() {
        let say = |words: &str| Said { success: false, words: words.to_owned() }.of_gpgv();
        let good = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG A B\n[GNUPG:] VALIDSIG C\n";
        assert_eq!(say(good), Outcome::Good);
        assert_eq!(say(&format!("[GNUPG:] ERRSIG X\n[GNUPG:] NO_PUBKEY X\n{good}")), Outcome::Good);
        assert_eq!(say(&format!("{good}[GNUPG:] BADSIG A B\n")), Outcome::Bad);
        assert_eq!(say("[GNUPG:] ERRSIG X\n[GNUPG:] NO_PUBKEY X\n"), Outcome::UnknownKey);
        assert_eq!(say("[GNUPG:] EXPKEYSIG A B\n[GNUPG:] VALIDSIG C\n"), Outcome::UnknownKey);
        assert_eq!(say("gpgv: BADSIG is only mentioned\n"), Outcome::UnknownKey);
        assert_eq!(say(""), Outcome::UnknownKey);
    }

    #[test]
    fn the_words_of_sqv_are_understood() {
        let say = |success, words: &str| Said { success, words: words.to_owned() }.of_sqv();
        assert_eq!(say(true, "04B5"), Outcome::Good);
        assert_eq!(say(false, "Verifying signature:\n    Message has been manipulated\n"), Outcome::Bad);
        assert_eq!(say(false, "Missing key 4CB5, which is needed\n"), Outcome::UnknownKey);
    }

    #[test]
    fn folders_left_behind_by_a_crash_are_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let first = new_folder(home.path()).unwrap();
        let nth: u64 = first.to_string_lossy().rsplit('-').next().unwrap().parse().unwrap();
        for taken in nth + 1..nth + 20 {
            fs::create_dir(home.path().join(format!("aptpeer-verify-{}-{taken}", std::process::id())))
                .unwrap();
        }
        let second = new_folder(home.path()).unwrap();
        assert!(second.is_dir() && second != first);
    }

    #[tokio::test]
    async fn a_verifier_that_hangs_or_is_missing_proves_nothing() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("key.gpg"), b"\x99").unwrap();
        let mut verifier = Verifier::new(vec![home.path().to_owned()], home.path().join("scratch"));
        verifier.programs = vec!["/nowhere/gpgv".into()];
        assert_eq!(verifier.check(b"text", b"signature").await, Outcome::NoVerifier);

        let program = home.path().join("gpgv");
        fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        verifier.programs = vec![program];
        verifier.patience = Duration::from_millis(50);
        assert_eq!(verifier.check(b"text", b"signature").await, Outcome::NoVerifier);
        assert_eq!(fs::read_dir(home.path().join("scratch")).unwrap().count(), 0, "files were left behind");
    }
}
