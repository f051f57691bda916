//! Rate limit for password attempts: a growing delay per account and per address. Pure: time is an argument. It
//! does not know whether an account exists, so its answers do not reveal it. Start at [`Throttle::begin`].

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong passwords for one account before there is a delay.
const ACCOUNT_FREE: u32 = 5;
/// Longest delay for an account: with a longer one, anybody could lock anybody else out.
const ACCOUNT_MOST: Duration = Duration::from_secs(60);
/// Wrong passwords from one address before there is a delay.
const ADDRESS_FREE: u32 = 10;
const ADDRESS_MOST: Duration = Duration::from_secs(15 * 60);
/// How long attempts are remembered.
const MEMORY: Duration = Duration::from_secs(60 * 60);
/// Most accounts and most addresses that are remembered, each.
const CAPACITY: usize = 10_000;

#[derive(Clone, Copy)]
struct Attempts {
    failures: u32,
    last: Instant,
}

impl Attempts {
    fn free_at(&self, free: u32, most: Duration) -> Instant {
        let Some(over) = self.failures.checked_sub(free) else { return self.last };
        let delay = Duration::from_secs(1).saturating_mul(1 << over.min(20));
        self.last + delay.min(most)
    }
}

/// Attempts by account and address.
#[derive(Default)]
pub struct Throttle {
    accounts: HashMap<String, Attempts>,
    addresses: HashMap<IpAddr, Attempts>,
    /// Addresses with a successful login to an account: for these only the address's own delay applies, so that
    /// strangers cannot lock somebody out.
    known: HashMap<(String, IpAddr), Attempts>,
}

impl Throttle {
    /// Begins an attempt. It counts as failed until it succeeds, so that concurrent attempts cannot bypass the limit.
    ///
    /// # Errors
    /// How long to wait.
    pub fn begin(&mut self, now: Instant, address: IpAddr, account: &str) -> Result<(), Duration> {
        let account = account.to_lowercase();
        let address = network_of(address);
        let blocked = |attempts: Option<&Attempts>, free, most| {
            attempts.map_or(now, |attempts| attempts.free_at(free, most)).saturating_duration_since(now)
        };
        let known = self.known.contains_key(&(account.clone(), address));
        let of_account = self.accounts.get(&account).filter(|_| !known);
        let wait = blocked(of_account, ACCOUNT_FREE, ACCOUNT_MOST).max(blocked(
            self.addresses.get(&address),
            ADDRESS_FREE,
            ADDRESS_MOST,
        ));
        if !wait.is_zero() {
            return Err(wait);
        }
        count(&mut self.accounts, account, now);
        count(&mut self.addresses, address, now);
        Ok(())
    }

    /// Takes an attempt back: no password was compared.
    pub fn forgiven(&mut self, address: IpAddr, account: &str) {
        if let Some(attempts) = self.accounts.get_mut(&account.to_lowercase()) {
            attempts.failures = attempts.failures.saturating_sub(1);
        }
        if let Some(attempts) = self.addresses.get_mut(&network_of(address)) {
            attempts.failures = attempts.failures.saturating_sub(1);
        }
    }

    /// The attempt succeeded: it does not count, and the account's earlier failures are cleared.
    pub fn succeeded(&mut self, now: Instant, address: IpAddr, account: &str) {
        self.accounts.remove(&account.to_lowercase());
        count(&mut self.known, (account.to_lowercase(), network_of(address)), now);
        if let Some(attempts) = self.addresses.get_mut(&network_of(address)) {
            attempts.failures = attempts.failures.saturating_sub(1);
        }
    }
}

fn count<K: Hash + Eq + Clone>(table: &mut HashMap<K, Attempts>, key: K, now: Instant) {
    if table.len() >= CAPACITY && !table.contains_key(&key) {
        table.retain(|_, attempts| now.saturating_duration_since(attempts.last) < MEMORY);
        if table.len() >= CAPACITY {
            let oldest = table.iter().min_by_key(|(_, attempts)| attempts.last).map(|(key, _)| key.clone());
            oldest.map(|key| table.remove(&key));
        }
    }
    let attempts = table.entry(key).or_insert(Attempts { failures: 0, last: now });
    if now.saturating_duration_since(attempts.last) >= MEMORY {
        attempts.failures = 0;
    }
    attempts.failures += 1;
    attempts.last = now;
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
    }

    #[test]
    fn strangers_do_not_keep_out_who_was_here_before() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        throttle.begin(now, HERE, "anna").unwrap();
        throttle.succeeded(now, HERE, "anna");
        for i in 0..6 {
            let _ = throttle.begin(now, address(i), "anna");
        }
        assert!(throttle.begin(now, address(99), "anna").is_err());
        assert_eq!(throttle.begin(now, HERE, "Anna"), Ok(()));
        for _ in 0..10 {
            let _ = throttle.begin(now, HERE, "anna");
        }
        assert!(throttle.begin(now, HERE, "anna").is_err(), "but its own address slows it down");
    }

    #[test]
    fn after_an_hour_all_is_forgotten() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            throttle.begin(now, HERE, "anna").unwrap();
        }
        let later = now + MEMORY;
        for _ in 0..5 {
            assert_eq!(throttle.begin(later, HERE, "anna"), Ok(()));
        }
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for i in 0..12_000 {
            throttle.begin(now + Duration::from_millis(i), address(i as u32), &format!("u{i}")).unwrap();
        }
        assert!(throttle.accounts.len() <= CAPACITY && throttle.addresses.len() <= CAPACITY);
        assert!(throttle.accounts.contains_key("u11999"));
    }
}
