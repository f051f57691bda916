//! A viewer's side: which packets it is due and when (`cursor`), out of which store (`ring`), with which headers
//! (`track`). Start at [`subscriber::Subscriber::send_video`].

pub mod cursor;
pub mod ring;
pub mod subscriber;
pub mod track;
