//! How often passwords may be guessed: a growing delay for each account and each address, which shrinks again with
//! time. Where somebody has logged in lately, neither applies to them: strangers cannot keep them out, nor can a
//! colleague behind the same router. Pure: time is an argument. It does not know whether an account exists, so its
//! answers do not tell either.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// A delay for those who have failed too often.
#[derive(Clone, Copy)]
struct Policy {
    /// Failures before there is a delay; it is a second then, and doubles with each.
    free: u32,
    /// The longest delay.
    most: Duration,
    /// One failure is forgotten in this time.
    decay: Duration,
}

/// Never closed for longer than a minute, or everybody could lock anybody out.
const ACCOUNT: Policy = Policy { free: 5, most: Duration::from_secs(60), decay: Duration::from_secs(300) };
/// Many people may be behind one address: ten minutes after twenty wrong passwords it is as good as new.
const ADDRESS: Policy = Policy { free: 10, most: Duration::from_secs(120), decay: Duration::from_secs(30) };
/// An account at an address from which it was logged in to lately.
const KNOWN: Policy = Policy { free: 10, most: Duration::from_secs(60), decay: Duration::from_secs(60) };
/// How long that is remembered.
const KNOWN_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Accounts, addresses and pairs that are remembered, each.
const CAPACITY: usize = 10_000;

#[derive(Clone, Copy)]
struct Attempts {
    failures: f64,
    last: Instant,
}

impl Attempts {
    fn failures(&self, now: Instant, policy: Policy) -> f64 {
        let forgotten = now.saturating_duration_since(self.last).as_secs_f64() / policy.decay.as_secs_f64();
        (self.failures - forgotten).max(0.0)
    }

    fn wait(&self, now: Instant, policy: Policy) -> Duration {
        let over = self.failures.ceil() as u32;
        let Some(over) = over.checked_sub(policy.free).filter(|_| {
            // Long after the last one the delay is none, whatever it was.
            self.failures(now, policy).ceil() as u32 >= policy.free
        }) else {
            return Duration::ZERO;
        };
        let delay = Duration::from_secs(1).saturating_mul(1 << over.min(20)).min(policy.most);
        (self.last + delay).saturating_duration_since(now)
    }

    fn fail(&mut self, now: Instant, policy: Policy) {
        self.failures = self.failures(now, policy) + 1.0;
        self.last = now;
    }

    fn forgive(&mut self, count: f64) {
        self.failures = (self.failures - count).max(0.0);
    }
}

/// Attempts of accounts at addresses from which they were logged in to.
#[derive(Clone, Copy)]
struct Known {
    attempts: Attempts,
    success: Instant,
}

/// Attempts by account and address.
#[derive(Default)]
pub struct Throttle {
    accounts: HashMap<String, Attempts>,
    addresses: HashMap<IpAddr, Attempts>,
    known: HashMap<(String, IpAddr), Known>,
}

impl Throttle {
    /// Begins an attempt. It counts as failed until it succeeds, so that concurrent attempts cannot bypass the limit.
    ///
    /// # Errors
    /// How long to wait.
    pub fn begin(&mut self, now: Instant, address: IpAddr, account: &str) -> Result<(), Duration> {
        let account = account.to_lowercase();
        let address = network_of(address);
        let lately = |known: &&mut Known| now.saturating_duration_since(known.success) < KNOWN_LIFE;
        if let Some(known) = self.known.get_mut(&(account.clone(), address)).filter(lately) {
            let wait = known.attempts.wait(now, KNOWN);
            if wait.is_zero() {
                known.attempts.fail(now, KNOWN);
                return Ok(());
            }
            return Err(wait);
        }
        let wait = |attempts: Option<&Attempts>, policy| {
            attempts.map_or(Duration::ZERO, |attempts| attempts.wait(now, policy))
        };
        let wait =
            wait(self.accounts.get(&account), ACCOUNT).max(wait(self.addresses.get(&address), ADDRESS));
        if !wait.is_zero() {
            return Err(wait);
        }
        entry(&mut self.accounts, account, now).fail(now, ACCOUNT);
        entry(&mut self.addresses, address, now).fail(now, ADDRESS);
        Ok(())
    }

    /// Takes an attempt back: no password was compared.
    pub fn forgiven(&mut self, address: IpAddr, account: &str) {
        self.forgive(network_of(address), &account.to_lowercase(), 1.0);
    }

    fn forgive(&mut self, address: IpAddr, account: &str, of_address: f64) {
        if let Some(known) = self.known.get_mut(&(account.to_owned(), address)) {
            return known.attempts.forgive(1.0);
        }
        if let Some(attempts) = self.accounts.get_mut(account) {
            attempts.forgive(1.0);
        }
        if let Some(attempts) = self.addresses.get_mut(&address) {
            attempts.forgive(of_address);
        }
    }

    /// The attempt was right: it does not count, the account's earlier ones are forgiven, and some of the address's:
    /// once for each account, or whoever has one could guess the others' without end.
    pub fn succeeded(&mut self, now: Instant, address: IpAddr, account: &str) {
        let (account, address) = (account.to_lowercase(), network_of(address));
        self.forgive(address, &account, 3.0);
        self.accounts.remove(&account);
        let fresh = Known { attempts: Attempts { failures: 0.0, last: now }, success: now };
        make_room(&mut self.known, &(account.clone(), address), |known| known.success);
        self.known.insert((account, address), fresh);
    }
}

fn entry<K: Hash + Eq>(table: &mut HashMap<K, Attempts>, key: K, now: Instant) -> &mut Attempts {
    make_room(table, &key, |attempts| attempts.last);
    table.entry(key).or_insert(Attempts { failures: 0.0, last: now })
}

/// The oldest tenth makes room for new ones.
fn make_room<K: Hash + Eq, V>(table: &mut HashMap<K, V>, key: &K, at: impl Fn(&V) -> Instant) {
    if table.len() < CAPACITY || table.contains_key(key) {
        return;
    }
    let mut times: Vec<Instant> = table.values().map(&at).collect();
    let (_, limit, _) = times.select_nth_unstable(CAPACITY / 10);
    let limit = *limit;
    table.retain(|_, value| at(value) > limit);
}

/// The IPv4 address itself, or the /64 network of an IPv6 address, which is what one household or server gets.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn an_account_gets_slower_and_slower() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        for i in 0..5 {
            assert_eq!(throttle.begin(start, address(i), "anna"), Ok(()));
        }
        assert_eq!(throttle.begin(start, address(9), "ANNA"), Err(Duration::from_secs(1)));
        let mut now = start;
        let mut delays = Vec::new();
        for i in 10..20 {
            let wait = throttle.begin(now, address(i), "anna").err().unwrap_or_default();
            delays.push(wait.as_secs());
            now += wait;
            assert_eq!(throttle.begin(now, address(i + 100), "anna"), Ok(()));
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(throttle.begin(now, address(9), "bert"), Ok(()), "other accounts are not affected");
    }

    #[test]
    fn an_address_gets_slower_whatever_accounts_it_tries() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for i in 0..10 {
            assert_eq!(throttle.begin(now, HERE, &format!("user{i}")), Ok(()));
        }
        assert_eq!(throttle.begin(now, HERE, "another"), Err(Duration::from_secs(1)));
        let same_network = |last: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, last));
        for i in 0..10 {
            assert_eq!(throttle.begin(now, same_network(i), &format!("six{i}")), Ok(()));
        }
        assert!(throttle.begin(now, same_network(77), "another").is_err());
    }

    #[test]
    fn success_forgives() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(throttle.begin(now, HERE, "anna"), Ok(()));
            throttle.succeeded(now, HERE, "Anna");
        }
        // Those who come to a busy address in the morning make it better, not worse.
        for i in 0..9 {
            throttle.begin(now, HERE, &format!("wrong{i}")).unwrap();
        }
        for i in 0..20 {
            throttle.begin(now, HERE, &format!("right{i}")).unwrap();
            throttle.succeeded(now, HERE, &format!("right{i}"));
        }
        assert_eq!(throttle.begin(now, HERE, "another"), Ok(()));
    }

    #[test]
    fn neither_strangers_nor_colleagues_keep_out_who_was_here_before() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        throttle.begin(now, HERE, "anna").unwrap();
        throttle.succeeded(now, HERE, "anna");
        for i in 0..6 {
            let _ = throttle.begin(now, address(i), "anna");
        }
        assert!(throttle.begin(now, address(99), "anna").is_err());
        for i in 0..30 {
            let _ = throttle.begin(now, HERE, &format!("user{i}"));
        }
        assert!(throttle.begin(now, HERE, "another").is_err(), "her address is blocked");
        assert_eq!(throttle.begin(now, HERE, "Anna"), Ok(()), "she is not");
        let guesses = (0..50).filter(|_| throttle.begin(now, HERE, "anna").is_ok()).count();
        assert!(guesses <= 10, "nor is that a way to guess her password");
    }

    #[test]
    fn ten_minutes_after_twenty_wrong_names_an_address_is_free() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        for i in 0..20 {
            while let Err(wait) = throttle.begin(now, HERE, &format!("wrong{i}")) {
                now += wait;
            }
        }
        assert!(throttle.begin(now, HERE, "anna").is_err());
        now += Duration::from_secs(600);
        for i in 0..5 {
            assert_eq!(throttle.begin(now, HERE, &format!("right{i}")), Ok(()));
        }
    }

    #[test]
    fn who_has_an_account_does_not_guess_the_others_without_end() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let mut guesses = 0;
        for i in 0..500 {
            if throttle.begin(now, HERE, "mallory").is_ok() {
                throttle.succeeded(now, HERE, "mallory");
            }
            guesses += u32::from(throttle.begin(now, HERE, &format!("victim{i}")).is_ok());
        }
        assert!(guesses <= 15, "{guesses}");
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for i in 0..12_000u32 {
            let at = now + Duration::from_millis(u64::from(i));
            throttle.begin(at, address(i), &format!("u{i}")).unwrap();
            throttle.succeeded(at, address(i), &format!("u{i}"));
            throttle.begin(at, address(i + 20_000), &format!("v{i}")).unwrap();
        }
        let sizes = [throttle.accounts.len(), throttle.addresses.len(), throttle.known.len()];
        assert!(sizes.iter().all(|size| *size <= CAPACITY), "{sizes:?}");
        assert!(throttle.accounts.contains_key("v11999"));
    }
}
