//! Passwords: hashing with argon2id, with bounded concurrency so that logins cannot exhaust the machine, and the
//! rules for acceptable passwords. It stores nothing. Start at [`Hasher`] and [`check`].

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand::Rng;
use tokio::sync::{Semaphore, oneshot};

use super::AccountError;
use crate::compartment;
use crate::secret::Secret;

/// Allowed password lengths, in characters.
const SHORTEST: usize = 8;
const LONGEST: usize = 256;
/// Concurrent hashings: each takes 19 MiB and some 20 ms of a core.
const AT_ONCE: usize = 2;
/// Longest wait for a free slot; after that the caller gets [`AccountError::Busy`].
const PATIENCE: Duration = Duration::from_secs(5);
/// Without characters that are easily confused.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// What one hashing works in.
type Memory = Vec<Block>;
type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// Hashes and verifies passwords.
#[derive(Clone)]
pub struct Hasher {
    room: Arc<Semaphore>,
    /// To threads that each keep their memory: allocated anew for every hashing, it fragments the heap, which then grows
    /// by a hundred megabytes.
    jobs: SyncSender<Job>,
    /// Compared with for unknown users, so that the answer takes equally long.
    nobody: Arc<str>,
}

impl Hasher {
    /// Creates one; takes as long as one hashing.
    ///
    /// # Errors
    /// Hashing fails, or there can be no further thread.
    pub fn new() -> Result<Self, AccountError> {
        let (jobs, waiting) = sync_channel(AT_ONCE);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..AT_ONCE {
            let waiting = waiting.clone();
            let thread = std::thread::Builder::new().name(format!("password-{number}"));
            let started = thread.spawn(move || work(&waiting));
            started.map_err(|error| AccountError::Internal(error.to_string()))?;
        }
        let nobody = hash(random().expose(), &mut Memory::new())?.into();
        Ok(Self { room: Arc::new(Semaphore::new(AT_ONCE)), jobs, nobody })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, AccountError> {
        let permit = tokio::time::timeout(PATIENCE, self.room.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(AccountError::Busy) };
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |memory| {
            let _ = done.send(work(memory));
            drop(permit);
        });
        // There is room: each job holds a permit.
        self.jobs.try_send(job).map_err(|_| AccountError::Busy)?;
        result.await.map_err(|_| AccountError::Busy)
    }

    /// The hash to store for a password.
    ///
    /// # Errors
    /// [`AccountError::Busy`].
    pub async fn hash(&self, password: &Secret) -> Result<String, AccountError> {
        let password = password.clone();
        self.run(move |memory| hash(password.expose(), memory)).await?
    }

    /// Whether a password matches the stored hash; takes equally long when there is none.
    ///
    /// # Errors
    /// [`AccountError::Busy`].
    pub async fn verify(&self, password: &Secret, stored: Option<String>) -> Result<bool, AccountError> {
        let (password, nobody) = (password.clone(), self.nobody.clone());
        self.run(move |memory| {
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(&nobody);
            known && fits(password.expose(), stored, memory)
        })
        .await
    }
}

/// Runs jobs until the hasher is gone.
fn work(waiting: &Mutex<Receiver<Job>>) {
    let mut memory = Memory::new();
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // A panic is logged, and its job's caller gets an error.
        let _ = compartment::run(|| job(&mut memory));
    }
}

/// A new hash in the PHC string format, with a random salt.
fn hash(password: &str, memory: &mut Memory) -> Result<String, AccountError> {
    let internal = |error: &dyn std::fmt::Display| AccountError::Internal(error.to_string());
    let params = Params::default();
    let salt =
        Salt::new(&rand::random::<[u8; Salt::RECOMMENDED_LENGTH]>()).map_err(|error| internal(&error))?;
    let output = output(password, &salt, &params, Params::DEFAULT_OUTPUT_LEN, memory);
    let output = output.ok_or_else(|| internal(&"a password cannot be hashed"))?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(|error| internal(&error))?,
        salt: Some(salt),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

/// Whether a password has this hash. Outputs are compared in constant time.
fn fits(password: &str, stored: &str, memory: &mut Memory) -> bool {
    let Ok(stored) = PasswordHash::new(stored) else { return false };
    let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else { return false };
    let ours =
        stored.algorithm == Algorithm::Argon2id.ident() && stored.version == Some(Version::V0x13.into());
    let Some(params) = Params::try_from(&stored).ok().filter(|_| ours) else { return false };
    output(password, salt, &params, expected.len(), memory).is_some_and(|found| found == *expected)
}

fn output(
    password: &str,
    salt: &Salt,
    params: &Params,
    length: usize,
    memory: &mut Memory,
) -> Option<Output> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    memory.resize(params.block_count(), Block::default());
    let mut buffer = [0; Output::MAX_LENGTH];
    let out = buffer.get_mut(..length)?;
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, &mut memory[..]).ok()?;
    Output::new(out).ok()
}

/// Whether a password is acceptable.
///
/// # Errors
/// [`AccountError::WeakPassword`].
pub fn check(password: &Secret, user: &str) -> Result<(), AccountError> {
    let text = password.expose();
    let length = text.chars().count();
    let mut letters: Vec<char> = text.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    let is_like_name = text.to_lowercase().contains(&user.to_lowercase()) && length < user.len() + 6;
    let weak = !(SHORTEST..=LONGEST).contains(&length) || letters.len() < 5 || is_like_name;
    if weak || COMMON.contains(&text.to_lowercase().as_str()) {
        return Err(AccountError::WeakPassword);
    }
    Ok(())
}

/// The most common passwords that would pass the other checks.
const COMMON: [&str; 16] = [
    "12345678",
    "123456789",
    "1234567890",
    "password",
    "password1",
    "password123",
    "qwertyui",
    "qwertyuiop",
    "iloveyou",
    "1q2w3e4r",
    "1qaz2wsx",
    "abcd1234",
    "passw0rd",
    "gatehouse",
    "admin123",
    "administrator",
];

/// A random password of 80 bits, in groups of four characters for easy typing.
pub fn random() -> Secret {
    let mut rng = rand::rng();
    let mut text = String::with_capacity(19);
    for place in 0..16 {
        if place > 0 && place % 4 == 0 {
            text.push('-');
        }
        text.push(char::from(LETTERS[rng.random_range(0..LETTERS.len())]));
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_hash_and_no_other() {
        let hasher = Hasher::new().unwrap();
        let stored = hasher.hash(&Secret::new("correct horse")).await.unwrap();
        assert!(stored.starts_with("$argon2id$"), "{stored}");
        assert!(hasher.verify(&Secret::new("correct horse"), Some(stored.clone())).await.unwrap());
        assert!(!hasher.verify(&Secret::new("wrong horse"), Some(stored)).await.unwrap());
        assert!(!hasher.verify(&Secret::new("correct horse"), None).await.unwrap());
        assert!(!hasher.verify(&Secret::new("x"), Some("broken".into())).await.unwrap());
    }

    #[test]
    fn hashes_are_those_of_the_crate() {
        use argon2::password_hash::{PasswordHasher, PasswordVerifier};
        let mut memory = Memory::new();
        let theirs = Argon2::default().hash_password(b"violet").unwrap().to_string();
        let ours = hash("violet", &mut memory).unwrap();
        assert!(fits("violet", &theirs, &mut memory) && !fits("violets", &theirs, &mut memory));
        assert!(Argon2::default().verify_password(b"violet", &PasswordHash::new(&ours).unwrap()).is_ok());
        assert_ne!(ours, hash("violet", &mut memory).unwrap(), "each has its own salt");
    }

    #[test]
    fn what_a_password_must_be_like() {
        let table = [
            ("short", false),
            ("12345678", false),
            ("aaaaaaaaaa", false),
            ("annaanna1", false),
            ("Password123", false),
            (&*"x1y2z".repeat(60), false),
            ("violet-41-kettle", true),
            ("一二三四五六七八", true),
        ];
        for (text, fits) in table {
            assert_eq!(check(&Secret::new(text), "anna").is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn random_passwords_are_strong() {
        let (one, two) = (random(), random());
        assert_ne!(one, two);
        assert!(check(&one, "admin").is_ok());
        assert_eq!(one.expose().len(), 19);
    }
}
