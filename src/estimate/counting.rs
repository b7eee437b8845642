//! Counting on all cores: one thread reads, the others count, and their sums are put together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::Model;
use super::lane::{Lane, Standing};
use super::queue::Queue;
use crate::tokenizer::{Chat, Encoding};
use crate::words::item::Item;
use crate::words::tokens::Tokens;

/// Items are handed over in batches of about this size, which is more than a thread's wakening
/// costs and much less than memory.
const BATCH_ITEMS: usize = 256;
const BATCH_BYTES: usize = 128 << 10;
/// Bytes of requests that may wait to be counted.
const READ_AHEAD: usize = 2 << 20;
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// An item in question.
#[derive(Debug)]
pub struct Asked {
    pub item: Item,
    /// It asks the same as an earlier one.
    pub is_repeated: bool,
}

/// What is to be counted.
pub struct Job<'a> {
    /// Says what is known of a model that an item itself is sent to.
    pub model: &'a (dyn Fn(&Arc<str>) -> Model + Sync),
    /// Models that all items are counted for, too.
    pub compared: &'a [Model],
    /// The length of an answer, if the user knows it.
    pub said: Option<Tokens>,
    /// The longest answer that every model in question can give, to compare them by.
    pub alike: Option<Tokens>,
    /// Fingerprints of items that have a result, and of those to be listed with their prompt.
    pub settled: &'a HashSet<u128>,
    pub sampled: &'a HashSet<u128>,
    pub threads: usize,
}

/// The sums of all items.
#[derive(Debug, Default)]
pub struct Counted {
    pub items: u64,
    /// By the model that the items themselves are sent to.
    pub own: BTreeMap<Arc<str>, Lane>,
    /// As in the job.
    pub compared: Vec<Lane>,
    /// Model and prompt of the sampled items.
    pub sampled: HashMap<u128, (Arc<str>, Tokens)>,
}

/// Counts all items of a source, and tells now and then how many are done.
pub fn count<E: Send>(
    job: &Job<'_>,
    source: impl FnMut() -> Result<Option<Asked>, E> + Send,
    mut tell: impl FnMut(u64),
) -> Result<Counted, E> {
    let queue = Queue::new(READ_AHEAD);
    let done = AtomicU64::new(0);
    // Nothing is ever sent: its closing says that all threads have ended.
    let (ended, all_ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let counters: Vec<_> = (0..job.threads.max(1))
            .map(|_| {
                let (queue, done, ended) = (&queue, &done, ended.clone());
                scope.spawn(move || {
                    let _ended = ended;
                    count_from(queue, job, done)
                })
            })
            .collect();
        drop(ended);
        let queue = &queue;
        let reader = scope.spawn(move || read_into(queue, source));
        while all_ended.recv_timeout(TOLD_EVERY) == Err(RecvTimeoutError::Timeout) {
            tell(done.load(Ordering::Relaxed));
        }
        let mut counted = Counted::new(job);
        for counter in counters {
            counted.merge(counter.join().expect("counting does not panic"));
        }
        reader.join().expect("reading does not panic")?;
        Ok(counted)
    })
}

/// Closes the queue also where reading ends in a panic, since the counters would wait for ever.
struct Closing<'q, T>(&'q Queue<T>);

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn read_into<E>(
    queue: &Queue<Vec<Asked>>,
    mut source: impl FnMut() -> Result<Option<Asked>, E>,
) -> Result<(), E> {
    let _closing = Closing(queue);
    let mut batch = Vec::with_capacity(BATCH_ITEMS);
    let mut bytes = 0;
    while let Some(asked) = source()? {
        bytes += asked.item.body.len();
        batch.push(asked);
        if batch.len() == BATCH_ITEMS || bytes >= BATCH_BYTES {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ITEMS));
            queue.push(full, std::mem::take(&mut bytes));
        }
    }
    queue.push(batch, bytes);
    Ok(())
}

fn count_from(queue: &Queue<Vec<Asked>>, job: &Job<'_>, done: &AtomicU64) -> Counted {
    let mut counted = Counted::new(job);
    while let Some(batch) = queue.pop() {
        batch.iter().for_each(|asked| counted.add(job, asked));
        done.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
    counted
}

/// The counts of one chat, each vocabulary's made when it is first asked for.
struct Chats<'a> {
    body: &'a [u8],
    counted: [Option<Chat>; Encoding::ALL.len()],
}

impl Chats<'_> {
    fn of(&mut self, encoding: Encoding) -> Chat {
        *self.counted[encoding as usize].get_or_insert_with(|| encoding.chat(self.body))
    }
}

impl Counted {
    fn new(job: &Job<'_>) -> Self {
        Counted {
            compared: job.compared.iter().cloned().map(Lane::new).collect(),
            ..Counted::default()
        }
    }

    fn add(&mut self, job: &Job<'_>, asked: &Asked) {
        let item = &asked.item;
        let mut chats = Chats {
            body: &item.body,
            counted: [None; Encoding::ALL.len()],
        };
        // Hashing an id is for nothing where nobody asks for it.
        let is_asked_for = !job.settled.is_empty() || !job.sampled.is_empty();
        let fingerprint = is_asked_for.then(|| item.id.fingerprint());
        let standing = Standing {
            is_settled: fingerprint.is_some_and(|id| job.settled.contains(&id)),
            is_repeated: asked.is_repeated,
            said: job.said,
            alike: job.alike,
        };
        self.items += 1;
        if !self.own.contains_key(&item.model) {
            let lane = Lane::new((job.model)(&item.model));
            self.own.insert(item.model.clone(), lane);
        }
        let own = self.own.get_mut(&item.model).expect("it is there now");
        let prompt = own.add(item, &chats.of(own.model.counter.encoding), standing);
        if let Some(id) = fingerprint.filter(|id| job.sampled.contains(id)) {
            self.sampled.insert(id, (item.model.clone(), prompt));
        }
        for lane in &mut self.compared {
            lane.add(item, &chats.of(lane.model.counter.encoding), standing);
        }
    }

    fn merge(&mut self, other: Counted) {
        self.items += other.items;
        for (name, lane) in other.own {
            match self.own.get_mut(&name) {
                Some(known) => known.merge(lane),
                None => drop(self.own.insert(name, lane)),
            }
        }
        for (known, lane) in self.compared.iter_mut().zip(other.compared) {
            known.merge(lane);
        }
        self.sampled.extend(other.sampled);
    }
}
