package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/workqueue"
)

// The limits of a queue.
const (
	MaxPayload     = 256 << 10 // bytes of an encoded value
	MaxCapacity    = 1_000_000 // items that [WithCapacity] allows
	MaxDelay       = 365 * 24 * time.Hour
	MaxVisibility  = 12 * time.Hour
	MinVisibility  = 100 * time.Millisecond
	MaxConcurrency = 1000

	maxAttempts        = 1_000_000
	defaultAttempts    = 20
	defaultVisibility  = 30 * time.Second
	defaultDedupWindow = 5 * time.Minute
	maxDedupWindow     = 24 * time.Hour
)

// An Option sets up a queue. Values outside their limits make every call return
// core.ErrInvalid, with nothing written.
type Option func(*options)

type options struct {
	attempts    int
	visibility  time.Duration
	capacity    int
	bounded     bool
	codec       core.Codec
	concurrency int
	backoff     func(attempt int) time.Duration
	window      time.Duration
}

func defaults() options {
	return options{attempts: defaultAttempts, visibility: defaultVisibility, codec: core.JSON{}, concurrency: 1,
		backoff: backoff, window: defaultDedupWindow}
}

// WithMaxAttempts makes an item a dead letter after n deliveries that were not
// acked, from 1 to 1,000,000. The default is 20. Consumers of one queue should
// agree on it.
func WithMaxAttempts(n int) Option { return func(o *options) { o.attempts = n } }

// WithVisibility sets how long a delivery lasts unless it is extended, from
// 100 ms to 12 h. The default is 30 s. After it the item goes back to the front
// of the queue.
func WithVisibility(d time.Duration) Option { return func(o *options) { o.visibility = d } }

// WithCapacity bounds the queue to n items that are neither acked nor dead, from
// 1 to 1,000,000. Enqueue then returns [ErrFull], or waits with [WaitForRoom].
// Producers of one queue should agree on it. The default is no bound.
func WithCapacity(n int) Option {
	return func(o *options) { o.capacity, o.bounded = n, true }
}

// WithCodec sets how values become bytes. The default is core.JSON.
func WithCodec(c core.Codec) Option { return func(o *options) { o.codec = c } }

// WithConcurrency sets how many items [Queue.Consume] works on at a time, from 1
// to 1,000. The default is 1.
func WithConcurrency(n int) Option { return func(o *options) { o.concurrency = n } }

// WithBackoff sets how long an item waits after [Queue.Consume]'s function
// failed on it; attempt is 1 after the first delivery. The default grows from 1 s
// to 5 min, with some jitter. Nil, or a negative result, is no delay.
func WithBackoff(after func(attempt int) time.Duration) Option {
	return func(o *options) {
		if o.backoff = after; after == nil {
			o.backoff = func(int) time.Duration { return 0 }
		}
	}
}

// WithDedupWindow sets how long a [DedupID] is remembered, from 2 s to 24 h. The
// default is 5 min. It may last a quarter longer.
func WithDedupWindow(d time.Duration) Option { return func(o *options) { o.window = d } }

func backoff(attempt int) time.Duration {
	d := min(time.Second<<min(attempt-1, 20), 5*time.Minute)
	return d - time.Duration(rand.Int64N(int64(d)/5))
}

// validate returns an error that is core.ErrInvalid.
func (o *options) validate(name string) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if err := keyspace.CheckName("name", name); err != nil {
		errs = append(errs, err)
	}
	check(o.attempts >= 1 && o.attempts <= maxAttempts, "max attempts: %d is outside 1 to %d", o.attempts, maxAttempts)
	check(o.visibility >= MinVisibility && o.visibility <= MaxVisibility, "visibility: %v is outside %v to %v", o.visibility, MinVisibility, MaxVisibility)
	check(!o.bounded || o.capacity >= 1 && o.capacity <= MaxCapacity, "capacity: %d is outside 1 to %d", o.capacity, MaxCapacity)
	check(o.codec != nil, "codec: is nil")
	check(o.concurrency >= 1 && o.concurrency <= MaxConcurrency, "concurrency: %d is outside 1 to %d", o.concurrency, MaxConcurrency)
	check(o.window >= 2*time.Second && o.window <= maxDedupWindow, "dedup_window: %v is outside 2s to %v", o.window, maxDedupWindow)
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", core.ErrInvalid, errors.Join(errs...))
	}
	return nil
}

// A PutOption says how one item is enqueued.
type PutOption func(*putOptions)

type putOptions struct {
	priority int
	delay    time.Duration
	dedup    string
	deduped  bool
	group    string
	grouped  bool
	wait     bool
}

// Priority delivers the item before those with a smaller priority, from -128 to
// 127. The default is 0.
func Priority(p int) PutOption { return func(o *putOptions) { o.priority = p } }

// Delay keeps the item from being delivered for d, at most a year. It counts on
// the clocks of whoever enqueues and of whoever consumes: what they differ by
// adds to it, or is missing. The item then has the place that it would have had.
func Delay(d time.Duration) PutOption { return func(o *putOptions) { o.delay = d } }

// DedupID makes a repeated Enqueue harmless: within the window
// ([WithDedupWindow]) only the first item with the id is put, and the others
// return that one's ID, whatever became of it. At most 255 bytes of UTF-8.
func DedupID(id string) PutOption {
	return func(o *putOptions) { o.dedup, o.deduped = id, true }
}

// Group delivers the items of one group in the order in which they were enqueued,
// one at a time: the next when the one before it was acked or is a dead letter.
// At most 255 bytes of UTF-8. An item of a group cannot be delayed, but by Nack.
func Group(key string) PutOption {
	return func(o *putOptions) { o.group, o.grouped = key, true }
}

// WaitForRoom makes Enqueue wait when the queue is full, as long as its ctx.
func WaitForRoom() PutOption { return func(o *putOptions) { o.wait = true } }

func (o *putOptions) validate() error {
	var errs []error
	if o.priority < workqueue.MinPriority || o.priority > workqueue.MaxPriority {
		errs = append(errs, fmt.Errorf("priority: %d is outside %d to %d", o.priority, workqueue.MinPriority, workqueue.MaxPriority))
	}
	errs = append(errs, checkDelay("delay", o.delay))
	for _, text := range []struct {
		field, value string
		set          bool
	}{{"dedup_id", o.dedup, o.deduped}, {"group", o.group, o.grouped}} {
		if text.set && text.value == "" {
			errs = append(errs, fmt.Errorf("%s: is empty", text.field))
		}
		if err := keyspace.CheckText(text.field, text.value, workqueue.MaxKey); err != nil {
			errs = append(errs, err)
		}
	}
	if o.grouped && o.delay > 0 {
		errs = append(errs, errors.New("delay: an item of a group cannot be delayed"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	return nil
}

func checkDelay(field string, d time.Duration) error {
	if d < 0 || d > MaxDelay {
		return fmt.Errorf("%s: %v is outside 0 to %v", field, d, MaxDelay)
	}
	return nil
}
