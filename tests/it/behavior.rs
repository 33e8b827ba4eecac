//! What a user of tokio's `TcpStream` relies on, as generic cases over a [`Transport`].
//!
//! No case sleeps. Time appears only as a guard against hanging, and "later" is counted in echoes over a
//! second stream of the same network ([`Clock`]).

pub(crate) mod cancel;
pub(crate) mod codec;
pub(crate) mod drop;
pub(crate) mod half_close;
pub(crate) mod halves;
pub(crate) mod large;
pub(crate) mod options;
pub(crate) mod peek;
pub(crate) mod read;
pub(crate) mod ready;
pub(crate) mod split;
pub(crate) mod tiny;
pub(crate) mod vectored;
pub(crate) mod write;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::data::Pattern;
use crate::transport::Transport;

/// After this a case counts as hung. Generous: the machine may be slow and shared.
const HANG: Duration = Duration::from_secs(240);

/// Runs one case over a freshly started network.
pub(crate) async fn run<T, C, F>(case: C) -> io::Result<()>
where
    T: Transport,
    C: FnOnce(T) -> F,
    F: Future<Output = io::Result<()>>,
{
    let hung = || io::Error::new(io::ErrorKind::TimedOut, "the case hung");
    tokio::time::timeout(HANG, async { Box::pin(case(T::start().await?)).await })
        .await
        .unwrap_or_else(|_| Err(hung()))
}

/// Polls a future once with the current task's waker.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    // Without tokio's budget, which could make a ready future look pending.
    tokio::task::unconstrained(poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx)))).await
}

/// Measures time in echoes over a stream of its own.
struct Clock<T: Transport> {
    client: T::Stream,
    server: T::Stream,
}

impl<T: Transport> Clock<T> {
    /// Enough round trips for everything already on its way to arrive.
    const TICKS: usize = 50;

    async fn new(net: &T) -> io::Result<Self> {
        let (client, server) = net.pair().await?;
        Ok(Self { client, server })
    }

    /// Lets some round trips pass. Fails if a stalled neighbour stops this stream.
    async fn pass(&mut self) -> io::Result<()> {
        let mut byte = [0];
        for tick in 0..Self::TICKS {
            let sent = [tick.to_le_bytes()[0]];
            self.client.write_all(&sent).await?;
            self.server.read_exact(&mut byte).await?;
            self.server.write_all(&byte).await?;
            self.client.read_exact(&mut byte).await?;
            assert_eq!(byte, sent);
        }
        Ok(())
    }

    /// Writes `pattern` from its start until a write stays pending although time passes; returns the count.
    async fn fill(&mut self, writer: &mut (impl AsyncWrite + Unpin), pattern: &Pattern) -> io::Result<usize> {
        let mut accepted = 0;
        loop {
            let mut write = pin!(writer.write(pattern.at(accepted)));
            let outcome = match poll_once(write.as_mut()).await {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => {
                    self.pass().await?;
                    match poll_once(write).await {
                        Poll::Ready(outcome) => outcome,
                        Poll::Pending => return Ok(accepted),
                    }
                }
            };
            accepted += outcome?;
            let most = T::DIFFERENCES.in_flight;
            assert!(accepted <= most, "{accepted} bytes accepted for a peer that does not read");
        }
    }
}

/// Instantiates the whole suite for one transport: `behavior_suite!(module_name, crate::path::Type)`.
macro_rules! behavior_suite {
    ($name:ident, $transport:ty) => {
        mod $name {
            crate::behavior::behavior_cases! { $transport;
                read {
                    returns_what_is_there,
                    small_buffers_get_everything,
                    zero_length_read_takes_nothing,
                    pends_until_data_arrives,
                    ends_only_after_shutdown,
                    read_to_end_gets_everything,
                    read_buf_appends,
                    data_wakes_a_reader_in_another_task,
                    pending_reader_can_move_to_another_task,
                    addresses_match,
                }
                write {
                    arrives_in_order,
                    zero_length_write_sends_nothing,
                    reports_what_it_took,
                    arrives_without_flush,
                    flush_completes,
                    pends_while_the_peer_does_not_read,
                    blocked_writer_can_move_to_another_task,
                    blocked_writer_does_not_block_reading,
                }
                split {
                    halves_run_on_two_tasks,
                    pending_read_half_lets_the_write_half_write,
                    shutdown_of_the_write_half_is_a_half_close,
                    dropped_read_half_lets_the_write_half_write,
                    dropped_write_half_ends_one_direction,
                    echo_server_by_copy,
                    generic_split_works,
                }
                half_close {
                    server_sends_long_after_the_clients_end,
                    client_sends_long_after_the_servers_end,
                    directions_end_independently,
                    shutdown_twice,
                    write_after_shutdown_fails,
                    simultaneous_shutdown,
                    data_before_shutdown_is_delivered,
                    shutdown_then_drop_is_a_clean_end,
                    shutdown_without_data,
                    shutdown_wakes_a_pending_read,
                    shutdown_behind_a_full_buffer,
                }
                cancel {
                    dropped_read_takes_nothing,
                    randomly_dropped_reads_lose_nothing,
                    pinned_read_exact_in_select_loses_nothing,
                    dropped_read_exact_takes_a_prefix,
                    dropped_write_takes_nothing,
                    dropped_write_all_takes_a_prefix,
                    dropped_write_all_buf_knows_its_prefix,
                    dropped_shutdown_can_be_repeated,
                    select_over_both_halves,
                }
                drop {
                    without_shutdown_after_everything_was_read,
                    without_shutdown_while_data_is_on_its_way,
                    with_unread_data,
                    writes_to_a_dropped_peer_fail,
                    wakes_a_pending_read,
                    wakes_a_pending_write,
                    leaves_other_streams_alone,
                    after_both_ends_shut_down,
                }
                large {
                    both_directions_at_once,
                    one_write_one_read,
                    fifty_streams_at_once,
                    proxy_by_copy_bidirectional,
                }
                ready {
                    try_read_takes_what_is_there,
                    readable_tells_the_end,
                    everyone_who_waits_is_woken,
                    try_write_fills_the_buffer_and_writable_waits,
                    an_empty_write_does_not_make_a_waiter_forgotten,
                    ready_tells_both_directions,
                    polling_is_woken,
                    vectored_reads_and_writes,
                    try_read_buf_appends,
                    dropped_waits_take_nothing,
                }
                peek {
                    leaves_the_bytes,
                    waits_for_bytes_and_tells_the_end,
                    dropped_peek_takes_nothing,
                    polls,
                }
                halves {
                    borrowed_halves_have_every_method,
                    owned_halves_have_every_method,
                    borrowed_halves_leave_the_stream_whole,
                    reunited_halves_are_the_stream,
                    halves_of_two_streams_do_not_reunite,
                    a_forgotten_write_half_ends_nothing,
                }
                options {
                    nodelay_is_remembered,
                    small_writes_arrive_without_nodelay,
                    zero_linger_aborts,
                    hints_are_taken,
                    take_error_tells_a_reset_once,
                }
                codec {
                    lines,
                    long_frames_in_both_directions,
                    buffered_stream,
                }
                tiny {
                    one_byte_ping_pong,
                    thousands_of_tiny_writes,
                    late_reader_gets_tiny_writes_in_few_reads,
                    sizes_up_and_down,
                    one_byte_reads,
                }
                vectored {
                    is_supported,
                    skips_empty_slices,
                    only_empty_slices_send_nothing,
                    many_slices,
                    takes_a_prefix_when_the_buffer_fills,
                    fails_after_shutdown,
                }
            }
        }
    };
}

/// One test for each case named; a case that no suite names is an unused function, which the lints refuse.
macro_rules! behavior_cases {
    ($transport:ty; $($module:ident { $($case:ident),* $(,)? })*) => {
        $(mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() -> std::io::Result<()> {
                    crate::behavior::run(crate::behavior::$module::$case::<$transport>).await
                }
            )*
        })*
    };
}

pub(crate) use {behavior_cases, behavior_suite};
