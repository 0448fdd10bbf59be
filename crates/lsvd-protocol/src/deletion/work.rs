//! What openers and writers do to the store, and what its answers do to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::deletion::rules::Broken;
use crate::deletion::store::{Content, Name, Superblock};
use crate::deletion::writer::{Copied, Making, Writer};
use crate::deletion::{Checkpoint, Deletion, Request, RequestBody, State};

impl Deletion {
    /// Claims, loads, rolls forward, serves.
    pub(crate) fn open(&self, state: &mut State, host: usize, is_misread: bool) {
        state.used.openings += 1;
        let epoch = state.used.openings;
        let claim = Arc::new(Superblock {
            number: state.store.newest.number + 1,
            by: epoch,
            ..(*state.store.newest).clone()
        });
        state.store.create_superblock(&claim);
        let opened = match state.store.open(is_misread, self.broken) {
            Ok(opened) => opened,
            Err(_) => {
                state.refused = true;
                return;
            }
        };
        if let Some(name) = opened.fell_back_from {
            state.store.noticed.insert(name);
        }
        let mut writer = Writer {
            epoch,
            own: claim,
            outstanding: None,
            fell_back_from: opened.fell_back_from,
            line: state.store.stream.clone(),
            next: 0,
            map: opened.map,
            table: opened
                .table
                .into_iter()
                .map(|name| (name, None))
                .collect::<BTreeMap<_, _>>(),
            cuts: 0,
            cut_of: BTreeMap::new(),
            making: Making::Nothing,
            copied: None,
            reading: None,
        };
        let pending = opened.pending;
        if let Some(pending) = pending.filter(|_| self.broken != Broken::SnapshotOvertaken) {
            // Its cut is made, in the past: it is the first of this opening.
            let name = Name::Checkpoint(epoch, writer.number());
            let checkpoint = Arc::new(Checkpoint { name, ..pending });
            writer.cuts += 1;
            writer.making = Making::Storing(Arc::clone(&checkpoint), writer.cuts);
            state.send(epoch, RequestBody::PutCheckpoint(checkpoint));
        }
        writer.stamp_the_dead(&state.store, self.broken);
        if self.broken == Broken::UnstampedAtOpen {
            writer.unstamp_new(&BTreeSet::new());
        }
        state.hosts[host] = Some(Arc::new(writer));
    }

    pub(crate) fn append(&self, state: &mut State, host: usize, content: Content) -> Option<()> {
        let writer = writer_of(&mut state.hosts, host)?;
        let entry = writer.append(content);
        if writer.epoch == state.used.openings {
            state.store.stream.push(entry);
            state.store.objects.insert(entry.name);
        }
        writer.stamp_the_dead(&state.store, self.broken);
        Some(())
    }

    pub(crate) fn cut(&self, state: &mut State, host: usize, snapshot: Option<u8>) -> Option<()> {
        let writer = writer_of(&mut state.hosts, host)?;
        let checkpoint = writer.cut(snapshot, self.broken);
        writer.stamp_the_dead(&state.store, self.broken);
        let epoch = writer.epoch;
        state.used.checkpoints += 1;
        state.send(epoch, RequestBody::PutCheckpoint(checkpoint));
        Some(())
    }

    pub(crate) fn delete_snapshot(state: &mut State, host: usize, snapshot: u8) -> Option<()> {
        let writer = writer_of(&mut state.hosts, host)?;
        let draft = writer.advance(|next| {
            next.snapshots.remove(&snapshot);
        });
        let epoch = writer.epoch;
        state.send(epoch, RequestBody::PutSuperblock(draft));
        Some(())
    }

    pub(crate) fn collect(&self, state: &mut State, host: usize) -> Option<()> {
        let writer = writer_of(&mut state.hosts, host)?;
        let (epoch, number) = (writer.epoch, writer.number());
        let name = Name::Gc(epoch, number);
        let (victims, map) = (writer.victims(self.broken), writer.map);
        writer.copied = Some(Copied { name, victims, map });
        state.used.copies += 1;
        state.send(epoch, RequestBody::PutGc(name));
        Some(())
    }

    /// Removes what it may, behind a fence check. This is the one place where objects are removed.
    pub(crate) fn remove(&self, state: &mut State, host: usize) -> Option<()> {
        let is_unchecked = [Broken::RemovesUnchecked, Broken::CleansNewer].contains(&self.broken);
        let newest = Arc::clone(&state.store.newest);
        let writer = writer_of(&mut state.hosts, host)?;
        if newest.by != writer.epoch && !is_unchecked {
            state.hosts[host] = None;
            return Some(());
        }
        if newest.by == writer.epoch && newest.number > writer.own.number {
            self.adopt(state, host, &newest);
        }
        let writer = writer_of(&mut state.hosts, host)?;
        let doomed = writer.removable(&state.store, self.broken);
        if self.broken == Broken::ForgottenWhenSent {
            writer.table.retain(|name, _| !doomed.contains(name));
        }
        let epoch = writer.epoch;
        for name in doomed {
            state.send(epoch, RequestBody::Delete(name));
        }
        Some(())
    }

    fn adopt(&self, state: &mut State, host: usize, found: &Arc<Superblock>) {
        let Some(writer) = writer_of(&mut state.hosts, host) else {
            return;
        };
        let (epoch, before) = (writer.epoch, writer.dead());
        let drops = writer.own.snapshots.len() > found.snapshots.len();
        writer.adopt(found, &state.store, self.broken);
        if drops && self.broken == Broken::UnstampedBehindSnapshot {
            writer.unstamp_new(&before);
        }
        if let Some(draft) = writer.name_stored(self.broken) {
            state.send(epoch, RequestBody::PutSuperblock(draft));
        }
    }

    pub(crate) fn arrive(&self, state: &mut State, request: &Request, answer_is_lost: bool) {
        match answer_is_lost {
            true => state.used.faults += 1,
            false => drop(state.network.remove(request)),
        }
        let before = Arc::clone(&state.store.newest);
        let store = &mut state.store;
        let is_ours = match &request.body {
            RequestBody::PutGc(name) => {
                store.objects.insert(*name);
                true
            }
            RequestBody::PutCheckpoint(checkpoint) => {
                let known = Arc::clone(checkpoint);
                store.checkpoints.insert(checkpoint.name, known);
                true
            }
            RequestBody::PutSuperblock(superblock) => store.create_superblock(superblock),
            RequestBody::Delete(name) => {
                store.remove(*name);
                true
            }
        };
        let was = before.snapshots.keys();
        let gone = was.filter(|name| !state.store.newest.snapshots.contains_key(name));
        state.deleted.extend(gone);
        if !answer_is_lost {
            self.answered(state, request, is_ours);
        }
    }

    fn answered(&self, state: &mut State, request: &Request, is_ours: bool) {
        let mut hosts = state.hosts.iter();
        let is_sender = |host: &Option<Arc<Writer>>| {
            let writer = host.as_ref();
            writer.is_some_and(|writer| writer.epoch == request.from)
        };
        let Some(host) = hosts.position(is_sender) else {
            return;
        };
        let Some(writer) = writer_of(&mut state.hosts, host) else {
            return;
        };
        match &request.body {
            RequestBody::PutSuperblock(superblock) => {
                if !is_ours {
                    state.hosts[host] = None;
                } else if writer.outstanding.as_ref() == Some(superblock) {
                    self.adopt(state, host, superblock);
                }
            }
            RequestBody::PutCheckpoint(stored) => {
                if let Making::Storing(checkpoint, cut) = &writer.making
                    && checkpoint == stored
                {
                    writer.making = Making::Stored(Arc::clone(stored), *cut);
                    if let Some(draft) = writer.name_stored(self.broken) {
                        state.send(request.from, RequestBody::PutSuperblock(draft));
                    }
                }
            }
            RequestBody::PutGc(_) => {
                let before = writer.dead();
                writer.remap(self.broken);
                writer.stamp_the_dead(&state.store, self.broken);
                if self.broken == Broken::UnstampedVictim {
                    writer.unstamp_new(&before);
                }
            }
            RequestBody::Delete(name) => drop(writer.table.remove(name)),
        }
    }
}

/// The memory of a host's process.
pub(crate) fn writer_of(hosts: &mut [Option<Arc<Writer>>], host: usize) -> Option<&mut Writer> {
    hosts[host].as_mut().map(Arc::make_mut)
}
