//! Sending to viewers: which packets are due and when (`cursor`), where they are stored (`ring`), and which headers
//! they get (`track`). Start at [`subscriber::Subscriber::send_video`].

pub mod cursor;
pub mod ring;
pub mod subscriber;
pub mod track;
