package workqueue

import (
	"context"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/watch"
)

// fill is what a producer knows of a bounded queue: that it has at most so many
// items.
type fill struct {
	known bool
	mod   int64 // of its key; 0 while no producer bounds the queue
	items int64
}

// uncounted stands in the key between the first bounded enqueue and its count:
// from then on whoever enqueues has to change the key.
const uncounted = 1 << 40

// room keeps of a batch what the queue has room for. The rest waits, or is told
// that the queue is full: that is true at the revision of the count.
func (w *Writer) room(ctx context.Context, batch []*entry) []*entry {
	bounded := false
	for _, e := range batch {
		bounded = bounded || e.Capacity > 0
	}
	if !bounded {
		return batch
	}
	if w.fill.mod == 0 {
		if err := w.bound(ctx); err != nil {
			w.answer(batch, err)
			return nil
		}
	}
	fits, rest := w.fitting(batch)
	if len(rest) == 0 {
		return fits
	}
	if err := w.recount(ctx); err != nil {
		w.answer(batch, err)
		return nil
	}
	fits, rest = w.fitting(batch)
	for _, e := range rest {
		if id, err := w.before(ctx, e); id != "" || err != nil {
			e.done <- placed{id: id, err: err}
			continue
		}
		if !e.Wait {
			e.done <- placed{err: ErrFull}
			continue
		}
		w.park(e)
	}
	return fits
}

// before returns the item that was enqueued under the entry's dedup key, "" if
// there is none. It needs no room: its enqueue is repeated.
func (w *Writer) before(ctx context.Context, e *entry) (string, error) {
	if e.Dedup == "" || e.asked != nil {
		return "", nil
	}
	resp, err := read(ctx, w.e, clientv3.OpGet(w.root.dedup(e.Dedup)))
	if err != nil {
		return "", err
	}
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		return string(kv.Value), nil
	}
	return "", nil
}

func (w *Writer) fitting(batch []*entry) (fits, rest []*entry) {
	for _, e := range batch {
		if e.Capacity > 0 && w.fill.items+int64(len(fits)) >= int64(e.Capacity) {
			rest = append(rest, e)
			continue
		}
		fits = append(fits, e)
	}
	return fits, rest
}

// bound makes every producer count from now on.
func (w *Writer) bound(ctx context.Context) error {
	key := w.root.fill()
	r, err := w.e.Do(ctx, commit.Txn{Scope: []string{string(w.root)}, If: []clientv3.Cmp{absent(key)},
		Then: []clientv3.Op{clientv3.OpPut(key, strconv.FormatInt(uncounted, 10))}, Else: []clientv3.Op{clientv3.OpGet(key)}})
	if err != nil {
		return err
	}
	w.fill = fill{known: true, mod: r.Revision, items: uncounted}
	if !r.Succeeded {
		w.learn([]clientv3.Op{clientv3.OpGet(key)}, r.Responses, r.Revision)
	}
	return nil
}

// recount counts the items. The count is no less than what there is for as long
// as nobody changes the key, since only who enqueues adds items.
func (w *Writer) recount(ctx context.Context) error {
	ops := append([]clientv3.Op{clientv3.OpGet(w.root.fill())}, w.root.counts()...)
	resp, err := read(ctx, w.e, ops...)
	if err != nil {
		return err
	}
	w.learn(ops[:1], resp.Responses, resp.Header.Revision)
	w.fill.items = int64(w.root.items(resp.Responses[1:]...))
	return nil
}

// counts returns the reads that tell how many items a queue has.
func (k keys) counts() []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpGet(k.front(), clientv3.WithRange(end(k.later())), clientv3.WithCountOnly()), // front, lane, later
		k.count(k.out()), k.count(k.bundles()), k.count(k.nexts()),
	}
}

// park lets an entry wait until something leaves the queue.
func (w *Writer) park(e *entry) {
	w.mu.Lock()
	e.sent = false
	w.parked = append(w.parked, e)
	start := !w.waiting
	w.waiting = true
	w.mu.Unlock()
	if start {
		w.e.Go(w.waitForRoom)
	}
}

// waitForRoom submits the parked entries again whenever items leave the queue,
// and at least every second, until none is left.
func (w *Writer) waitForRoom(ctx context.Context) {
	left := make(chan struct{}, 1)
	note := func() {
		select {
		case left <- struct{}{}:
		default:
		}
	}
	gone, err := watch.Key(ctx, w.e.Client(), w.root.delivered(), watch.Options{Prefix: true, NoPut: true, Streams: w.e.Streams(),
		Event: func(*clientv3.Event) { note() }, Lost: func(error) { note() }})
	if err == nil {
		defer gone.Close()
	}
	for {
		w.mu.Lock()
		parked := w.parked
		w.parked = nil
		over := len(parked) == 0 || ctx.Err() != nil || w.e.Session().Err() != nil
		if over {
			w.waiting = false
		}
		w.mu.Unlock()
		if over {
			w.answer(parked, ended(w.e))
			return
		}
		w.submit(parked)
		timer := time.NewTimer(time.Second)
		select {
		case <-left:
		case <-timer.C:
		case <-w.e.Session().Done():
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// windows are the leases of dedup keys. Each serves for a quarter of its window,
// so that a key lasts between one and one and a quarter.
type windows struct {
	mu  sync.Mutex
	all map[time.Duration]window
}

type window struct {
	lease clientv3.LeaseID
	until time.Time
}

// refresh grants the lease of a window, if there is none or it is too old.
func (w *windows) refresh(ctx context.Context, e *engine.Engine, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().Before(w.all[d].until) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := e.Client().Grant(ctx, int64((d+d/4+time.Second-1)/time.Second))
	if err != nil {
		return err
	}
	if w.all == nil {
		w.all = make(map[time.Duration]window)
	}
	w.all[d] = window{lease: resp.ID, until: time.Now().Add(d / 4)}
	return nil
}

// serve tells whether there is a lease of a window that is young enough.
func (w *windows) serve(d time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Before(w.all[d].until)
}

func (w *windows) lease(d time.Duration) clientv3.LeaseID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[d].lease
}

func (w *windows) forget(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, d)
}
