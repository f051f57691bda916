//! Passwords: hashing with argon2id, with bounded concurrency so that logins cannot exhaust the machine, and the
//! rules for acceptable passwords. It stores nothing. Start at [`Hasher`] and [`check`].

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
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

type Job = Box<dyn FnOnce() + Send>;

/// Hashes and verifies passwords.
#[derive(Clone)]
pub struct Hasher {
    room: Arc<Semaphore>,
    /// To threads of their own: the allocator keeps the memory of a hashing for its thread, and tokio's pool of blocking
    /// threads would keep it for each of its threads.
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
        let nobody = hash(random().expose())?.into();
        Ok(Self { room: Arc::new(Semaphore::new(AT_ONCE)), jobs, nobody })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccountError> {
        let permit = tokio::time::timeout(PATIENCE, self.room.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(AccountError::Busy) };
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            let _ = done.send(work());
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
        self.run(move || hash(password.expose())).await?
    }

    /// Whether a password matches the stored hash; takes equally long when there is none.
    ///
    /// # Errors
    /// [`AccountError::Busy`].
    pub async fn verify(&self, password: &Secret, stored: Option<String>) -> Result<bool, AccountError> {
        let (password, nobody) = (password.clone(), self.nobody.clone());
        self.run(move || {
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(&nobody);
            let fits = PasswordHash::new(stored).is_ok_and(|stored| {
                Argon2::default().verify_password(password.expose().as_bytes(), &stored).is_ok()
            });
            known && fits
        })
        .await
    }
}

/// Runs jobs until the hasher is gone.
fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // A panic is logged, and its job's caller gets an error.
        let _ = compartment::run(job);
    }
}

fn hash(password: &str) -> Result<String, AccountError> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| AccountError::Internal(error.to_string()))
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
