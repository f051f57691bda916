//! Who may do what: one pure function, [`may`], of the caller, the target, and the rules that admins have set. It
//! has no state and does no I/O. The table in its tests is the specification.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A user's role.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees only what is explicitly allowed to guests.
    Guest,
    /// Staff.
    Member,
    /// Runs a control room: may call and watch everybody.
    Dispatcher,
    /// May do everything.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Guest, Self::Member, Self::Dispatcher, Self::Admin];

    /// Its name in the API, the configuration and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Member => "member",
            Self::Dispatcher => "dispatcher",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// An entry of an allow list: whom it applies to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Subject {
    /// Everybody with an account: `everyone`.
    Everyone,
    /// `role:member`.
    Role(Role),
    /// `group:night-shift`.
    Group(String),
    /// `user:anna`.
    User(String),
}

impl Subject {
    /// The accepted forms, for error messages.
    pub const ALLOWED: &'static str = "\"everyone\", \"role:…\", \"group:…\" or \"user:…\"";

    /// Whether it applies to this person.
    pub fn names(&self, person: &Person) -> bool {
        match self {
            Self::Everyone => true,
            Self::Role(role) => person.role == *role,
            Self::Group(group) => person.groups.iter().any(|name| name.eq_ignore_ascii_case(group)),
            Self::User(user) => person.name.eq_ignore_ascii_case(user),
        }
    }
}

impl FromStr for Subject {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "everyone" {
            return Ok(Self::Everyone);
        }
        let (kind, name) = text.split_once(':').ok_or(())?;
        match kind {
            "role" => name.parse().map(Self::Role),
            "group" if is_title(name) => Ok(Self::Group(name.to_owned())),
            "user" if crate::ids::is_name(name) => Ok(Self::User(name.to_owned())),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("everyone"),
            Self::Role(role) => write!(f, "role:{}", role.as_str()),
            Self::Group(group) => write!(f, "group:{group}"),
            Self::User(user) => write!(f, "user:{user}"),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom(format!("expected {}", Self::ALLOWED)))
    }
}

/// Whether a text can be a group name or a display name: 1 to 64 characters in one line.
pub fn is_title(text: &str) -> bool {
    let length = text.chars().count();
    (1..=64).contains(&length) && text.trim() == text && !text.chars().any(char::is_control)
}

/// Somebody with an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// The login name.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// Names of their groups.
    pub groups: Vec<String>,
}

/// What a token may be used for. A login may do everything that its user may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scopes {
    /// Cameras: listing and watching them.
    pub watch: bool,
    /// Publishing by WHIP.
    pub publish: bool,
    /// Creating tickets for other web pages.
    pub share: bool,
    /// Calling, presence, rooms, and everything that the person may administer.
    pub manage: bool,
}

impl Scopes {
    /// The scopes of a login.
    pub const ALL: Self = Self { watch: true, publish: true, share: true, manage: true };
}

/// The caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who<'a> {
    /// Not authenticated.
    Nobody,
    /// A person, authenticated by login or token.
    Person(&'a Person, Scopes),
    /// The bearer of a ticket for one camera.
    Ticket {
        /// Its id.
        camera: &'a str,
        /// Who made it.
        maker: &'a Person,
    },
    /// A client of an older system that may watch these cameras; `*` stands for all.
    OldClient(&'a [String]),
}

/// The access rules of a camera.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CameraRule {
    /// Its id.
    pub id: String,
    /// Everybody may watch it, without a login.
    pub public: bool,
    /// Who may watch it; [`DEFAULT_ALLOW`] if not set. Admins always may.
    pub allow: Option<Vec<Subject>>,
    /// Who may publish it, if its source is WHIP; dispatchers if not set. Admins always may.
    pub publish: Option<Vec<Subject>>,
}

/// Who may watch a camera without an allow list: all staff, no guests.
pub const DEFAULT_ALLOW: [Subject; 2] = [Subject::Role(Role::Dispatcher), Subject::Role(Role::Member)];

/// A set of roles.
pub type RoleSet = Vec<Role>;

/// For each role of the caller, the roles of the target for which something is allowed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Towards {
    /// For guests.
    pub guest: RoleSet,
    /// For members.
    pub member: RoleSet,
    /// For dispatchers.
    pub dispatcher: RoleSet,
    /// For admins.
    pub admin: RoleSet,
}

impl Towards {
    fn allows(&self, from: Role, to: Role) -> bool {
        let set = match from {
            Role::Guest => &self.guest,
            Role::Member => &self.member,
            Role::Dispatcher => &self.dispatcher,
            Role::Admin => &self.admin,
        };
        set.contains(&to)
    }
}

/// The admins' rules between people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Who may call whom.
    pub call: Towards,
    /// Who may ask to watch whose camera. The watched person's consent is required in addition.
    pub watch: Towards,
    /// Who may create rooms.
    pub rooms: RoleSet,
}

impl Default for Rules {
    fn default() -> Self {
        let staff = vec![Role::Member, Role::Dispatcher, Role::Admin];
        let all = Role::ALL.to_vec();
        Self {
            call: Towards {
                guest: vec![Role::Dispatcher],
                member: staff.clone(),
                dispatcher: all.clone(),
                admin: all.clone(),
            },
            watch: Towards { guest: vec![], member: staff.clone(), dispatcher: all.clone(), admin: all },
            rooms: staff,
        }
    }
}

/// What the caller wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action<'a> {
    /// See a camera in lists, and watch it.
    WatchCamera(&'a CameraRule),
    /// Create a ticket for a camera.
    ShareCamera(&'a CameraRule),
    /// Publish one's own stream.
    Publish,
    /// Publish the video of a configured camera.
    PublishCamera(&'a CameraRule),
    /// Call somebody.
    Call(&'a Person),
    /// Ask to watch somebody's camera.
    WatchPerson(&'a Person),
    /// See somebody's presence.
    SeePerson(&'a Person),
    /// Create a room.
    MakeRoom,
    /// Manage users, cameras and permissions, and read the log.
    Administer,
}

/// Whether somebody may do something.
pub fn may(rules: &Rules, who: Who<'_>, action: Action<'_>) -> bool {
    let (person, scopes) = match (who, action) {
        (_, Action::WatchCamera(camera)) if camera.public => return true,
        (Who::Nobody, _) => return false,
        // A ticket grants only what its maker may currently share.
        (Who::Ticket { camera: granted, maker }, Action::WatchCamera(camera)) => {
            let shares = Action::ShareCamera(camera);
            return granted == camera.id && may(rules, Who::Person(maker, Scopes::ALL), shares);
        }
        (Who::OldClient(cameras), Action::WatchCamera(camera)) => {
            return cameras.iter().any(|id| id == "*" || *id == camera.id);
        }
        (Who::Ticket { .. } | Who::OldClient(_), _) => return false,
        (Who::Person(person, scopes), _) => (person, scopes),
    };
    let other_than = |other: &Person| !other.name.eq_ignore_ascii_case(&person.name);
    match action {
        Action::WatchCamera(camera) => scopes.watch && is_allowed(camera, person),
        Action::ShareCamera(camera) => {
            scopes.share && person.role >= Role::Dispatcher && is_allowed(camera, person)
        }
        Action::Publish => scopes.publish && person.role >= Role::Member,
        Action::PublishCamera(camera) => {
            let listed = match &camera.publish {
                None => person.role == Role::Dispatcher,
                Some(list) => list.iter().any(|subject| subject.names(person)),
            };
            scopes.publish && (person.role == Role::Admin || listed)
        }
        Action::Call(other) => {
            scopes.manage && other_than(other) && rules.call.allows(person.role, other.role)
        }
        Action::WatchPerson(other) => {
            scopes.watch && other_than(other) && rules.watch.allows(person.role, other.role)
        }
        Action::SeePerson(other) => {
            let linked = |towards: &Towards| {
                towards.allows(person.role, other.role) || towards.allows(other.role, person.role)
            };
            scopes.manage && (!other_than(other) || linked(&rules.call) || linked(&rules.watch))
        }
        Action::MakeRoom => scopes.manage && rules.rooms.contains(&person.role),
        Action::Administer => scopes.manage && person.role == Role::Admin,
    }
}

fn is_allowed(camera: &CameraRule, person: &Person) -> bool {
    let allow = camera.allow.as_deref().unwrap_or(&DEFAULT_ALLOW);
    person.role == Role::Admin || allow.iter().any(|subject| subject.names(person))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str, role: Role, groups: &[&str]) -> Person {
        Person { name: name.into(), role, groups: groups.iter().map(|&group| group.to_owned()).collect() }
    }

    fn camera(id: &str, public: bool, allow: Option<&[&str]>) -> CameraRule {
        let allow = allow.map(|list| list.iter().map(|text| text.parse().unwrap()).collect());
        CameraRule { id: id.into(), public, allow, publish: None }
    }

    #[test]
    fn clients_of_older_systems_watch_what_is_listed_and_nothing_else() {
        let rules = Rules::default();
        let (open, door, yard) = (
            camera("open", true, None),
            camera("door", false, None),
            camera("yard", false, Some(&["everyone"])),
        );
        let anna = person("anna", Role::Member, &[]);
        for (listed, watches) in
            [(&[][..], [true, false, false]), (&["door"], [true, true, false]), (&["*"], [true; 3])]
        {
            let listed: Vec<String> = listed.iter().map(|&id| id.to_owned()).collect();
            let may = |action: Action<'_>| may(&rules, Who::OldClient(&listed), action);
            let seen = [&open, &door, &yard].map(|camera| may(Action::WatchCamera(camera)));
            assert_eq!(seen, watches, "{listed:?}");
            let others = [
                Action::ShareCamera(&open),
                Action::PublishCamera(&open),
                Action::Publish,
                Action::Call(&anna),
                Action::WatchPerson(&anna),
                Action::SeePerson(&anna),
                Action::MakeRoom,
                Action::Administer,
            ];
            assert!(!others.into_iter().any(may), "{listed:?}");
        }
    }

    /// Who may do what, as a table: `+` yes, `-` no, in the order of its head.
    #[test]
    fn the_table() {
        let everybody = [
            person("gus", Role::Guest, &[]),
            person("mia", Role::Member, &["Night"]),
            person("max", Role::Member, &[]),
            person("dan", Role::Dispatcher, &[]),
            person("ada", Role::Admin, &[]),
        ];
        let cameras = [
            ("a public camera", camera("p", true, None)),
            ("a camera without a list", camera("c", false, None)),
            ("for admins alone", camera("c", false, Some(&[]))),
            ("for everyone", camera("c", false, Some(&["everyone"]))),
            ("for guests", camera("c", false, Some(&["role:guest"]))),
            ("for a group", camera("c", false, Some(&["group:night"]))),
            ("for one user", camera("c", false, Some(&["user:MAX"]))),
            ("public with a list", camera("p", true, Some(&[]))),
        ];
        let [public, plain, admins, everyone, guests, group, one, public_list] =
            cameras.map(|(_, camera)| camera);
        let [gus, mia, _max, dan, ada] = everybody.clone();
        let sam = person("sam", Role::Member, &[]);
        // Nobody, a ticket for "c", then gus mia max dan ada.
        let listed = CameraRule { publish: Some(vec![Subject::User("mia".into())]), ..plain.clone() };
        let table: [(Action<'_>, &str); 21] = [
            (Action::WatchCamera(&public), "++ +++++"),
            (Action::WatchCamera(&public_list), "++ +++++"),
            (Action::WatchCamera(&plain), "-+ -++++"),
            (Action::WatchCamera(&admins), "-+ ----+"),
            (Action::WatchCamera(&everyone), "-+ +++++"),
            (Action::WatchCamera(&guests), "-+ +---+"),
            (Action::WatchCamera(&group), "-+ -+--+"),
            (Action::WatchCamera(&one), "-+ --+-+"),
            (Action::ShareCamera(&plain), "-- ---++"),
            (Action::ShareCamera(&admins), "-- ----+"),
            (Action::Publish, "-- -++++"),
            (Action::PublishCamera(&public), "-- ---++"),
            (Action::PublishCamera(&listed), "-- -+--+"),
            (Action::Call(&gus), "-- ---++"),
            (Action::Call(&sam), "-- -++++"),
            (Action::Call(&dan), "-- +++-+"),
            (Action::WatchPerson(&sam), "-- -++++"),
            (Action::WatchPerson(&gus), "-- ---++"),
            (Action::SeePerson(&mia), "-- -++++"),
            (Action::MakeRoom, "-- -++++"),
            (Action::Administer, "-- ----+"),
        ];
        let rules = Rules::default();
        for (action, expected) in table {
            let mut callers = vec![Who::Nobody, Who::Ticket { camera: "c", maker: &everybody[4] }];
            callers.extend(everybody.iter().map(|person| Who::Person(person, Scopes::ALL)));
            let mut found: String =
                callers.iter().map(|who| if may(&rules, *who, action) { '+' } else { '-' }).collect();
            found.insert(2, ' ');
            assert_eq!(found, expected, "{action:?}");
        }
        assert!(
            may(&rules, Who::Person(&gus, Scopes::ALL), Action::SeePerson(&dan)),
            "a guest sees whom they may call"
        );
        assert!(may(&rules, Who::Person(&gus, Scopes::ALL), Action::SeePerson(&ada)), "and their callers");
    }

    #[test]
    fn a_token_may_do_what_its_scopes_say_and_no_more() {
        let ada = person("ada", Role::Admin, &[]);
        let sam = person("sam", Role::Member, &[]);
        let plain = camera("c", false, None);
        let only = |change: fn(&mut Scopes)| {
            let mut scopes = Scopes::default();
            change(&mut scopes);
            scopes
        };
        // watch, publish, share, manage
        let table = [
            (Action::WatchCamera(&plain), "+---"),
            (Action::WatchPerson(&sam), "+---"),
            (Action::Publish, "-+--"),
            (Action::PublishCamera(&plain), "-+--"),
            (Action::ShareCamera(&plain), "--+-"),
            (Action::Call(&sam), "---+"),
            (Action::MakeRoom, "---+"),
            (Action::Administer, "---+"),
        ];
        let scopes = [
            only(|scopes| scopes.watch = true),
            only(|scopes| scopes.publish = true),
            only(|scopes| scopes.share = true),
            only(|scopes| scopes.manage = true),
        ];
        for (action, expected) in table {
            let may = |scopes: &Scopes| may(&Rules::default(), Who::Person(&ada, *scopes), action);
            let found: String = scopes.iter().map(|scopes| if may(scopes) { '+' } else { '-' }).collect();
            assert_eq!(found, expected, "{action:?}");
        }
    }

    #[test]
    fn a_ticket_is_for_its_camera_alone() {
        let other = camera("other", false, Some(&["everyone"]));
        let (ada, dan) = (person("ada", Role::Admin, &[]), person("dan", Role::Dispatcher, &[]));
        let ticket = |maker| Who::Ticket { camera: "c", maker };
        assert!(!may(&Rules::default(), ticket(&ada), Action::WatchCamera(&other)));
        let (plain, admins) = (camera("c", false, None), camera("c", false, Some(&[])));
        assert!(may(&Rules::default(), ticket(&dan), Action::WatchCamera(&plain)));
        assert!(!may(&Rules::default(), ticket(&dan), Action::WatchCamera(&admins)), "its maker lost access");
        let demoted = person("dan", Role::Member, &[]);
        assert!(!may(&Rules::default(), ticket(&demoted), Action::WatchCamera(&plain)));
    }

    #[test]
    fn subjects_are_read_and_written() {
        for text in ["everyone", "role:guest", "group:夜班 A", "user:anna.b"] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        for bad in
            ["", "anyone", "role:boss", "role:", "group:", "group: x", "group:a\nb", "user:a b", "user:<b>"]
        {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_rules_are_what_admins_make_them() {
        let (gus, sam) = (person("gus", Role::Guest, &[]), person("sam", Role::Member, &[]));
        let mut rules = Rules::default();
        rules.call.guest = vec![Role::Member];
        rules.rooms.clear();
        assert!(may(&rules, Who::Person(&gus, Scopes::ALL), Action::Call(&sam)));
        assert!(!may(&rules, Who::Person(&sam, Scopes::ALL), Action::MakeRoom));
        let text = serde_json::to_string(&rules).unwrap();
        assert_eq!(serde_json::from_str::<Rules>(&text).unwrap(), rules);
    }
}
