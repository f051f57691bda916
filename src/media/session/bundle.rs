//! Which sections of an offer share one transport (BUNDLE, RFC 9143), and which section describes it. Pure. Start at
//! [`Bundle::of`].

use crate::media::session::sdp::{Media, Sdp};

/// The first BUNDLE group of an offer.
pub(super) struct Bundle<'a> {
    sdp: &'a Sdp,
    /// In the group's order; empty if there is no group.
    mids: Vec<&'a str>,
}

impl<'a> Bundle<'a> {
    /// Reads the group.
    pub fn of(sdp: &'a Sdp) -> Self {
        let groups = sdp.attributes.iter().filter(|attribute| attribute.name == "group");
        let mut groups = groups.map(|group| group.value.split_whitespace());
        let mids = groups.find_map(|mut words| (words.next() == Some("BUNDLE")).then(|| words.collect()));
        Self { sdp, mids: mids.unwrap_or_default() }
    }

    /// Whether sections may share a transport. Otherwise only one section can be accepted, because a peer has one
    /// transport.
    pub fn is_offered(&self) -> bool {
        !self.mids.is_empty()
    }

    /// Whether the section can be accepted: it is not rejected, and it uses the shared transport. Port 0 means rejected
    /// unless the section is bundle-only (RFC 9143 §6, §7.3).
    pub fn admits(&self, media: &Media) -> bool {
        if !self.is_offered() {
            return media.port != 0;
        }
        let is_member = media.attribute("mid").is_some_and(|mid| self.mids.contains(&mid));
        is_member && (media.port != 0 || media.attribute("bundle-only").is_some())
    }

    /// The accepted ones among the sections, with the same order as in the group: the first one is the tagged section
    /// (RFC 9143 §7.3.1).
    pub fn order(&self, is_accepted: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut accepted: Vec<usize> =
            (0..self.sdp.media.len()).filter(|index| is_accepted(*index)).collect();
        accepted.sort_by_key(|index| {
            let mid = self.sdp.media[*index].attribute("mid");
            self.mids.iter().position(|known| Some(*known) == mid)
        });
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdp(group: &str, sections: &[(u16, &str)]) -> Sdp {
        let mut text = format!("v=0\r\n{group}\r\n");
        for (number, (port, attribute)) in sections.iter().enumerate() {
            text += &format!("m=video {port} UDP/TLS/RTP/SAVPF 0\r\na=mid:{number}\r\na={attribute}\r\n");
        }
        Sdp::parse(&text).unwrap()
    }

    #[test]
    fn port_zero_and_the_group() {
        let table = [
            ("a=group:BUNDLE 0 1", [(9, "x"), (0, "bundle-only")], [true, true]),
            ("a=group:BUNDLE 0 1", [(9, "x"), (0, "x")], [true, false]),
            ("a=group:BUNDLE 0", [(9, "x"), (9, "x")], [true, false]),
            ("a=group:BUNDLE 0", [(9, "x"), (0, "bundle-only")], [true, false]),
            ("a=group:LS 0 1", [(9, "x"), (0, "bundle-only")], [true, false]),
            ("a=group:BUNDLE", [(9, "x"), (9, "x")], [true, true]),
        ];
        for (group, sections, expected) in table {
            let sdp = sdp(group, &sections);
            let bundle = Bundle::of(&sdp);
            let admitted = [0, 1].map(|index| bundle.admits(&sdp.media[index]));
            assert_eq!(admitted, expected, "{group} {sections:?}");
        }
    }

    #[test]
    fn the_groups_order_decides_which_section_is_tagged() {
        let sdp = sdp("a=group:BUNDLE 2 0 1", &[(9, "x"), (9, "x"), (9, "x")]);
        assert_eq!(Bundle::of(&sdp).order(|_| true), [2, 0, 1]);
        assert_eq!(Bundle::of(&sdp).order(|index| index != 2), [0, 1]);
    }
}
