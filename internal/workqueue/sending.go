package workqueue

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/conclavehq/conclave/internal/commit"
)

const (
	// maxSendings is how many batches of a Writer are under way at once.
	maxSendings = 2
	// worthwhile is how many entries have to wait for a batch beside another.
	worthwhile = maxOps / 2
	// turn is how many callers are told in a row. Those who go round in a loop would
	// else stand on the processors before who carries the batch that is under way: it
	// made 256 producers a sixth faster.
	turn = 8
)

// A sending is a batch on its way, with what it was built from: the Writer may know
// more by the time it is answered.
type sending struct {
	batch  []*entry
	txn    commit.Txn
	opened []*lane // segments that are open once it is applied
	now    incarnation
	fill   fill
	maxOps int
	r      commit.Result
	err    error
}

// write sends batches until nothing is pending: one after the other while there are
// few entries, else the next one while another is under way.
func (w *Writer) write(ctx context.Context) {
	answers := make(chan *sending, maxSendings)
	for underWay := 0; ; {
		if underWay == 0 || underWay < maxSendings && w.waits() >= worthwhile {
			if batch := w.pick(underWay > 0); len(batch) > 0 {
				if s := w.prepare(ctx, batch); s != nil {
					w.send(ctx, s, answers, underWay > 0)
					underWay++
				}
				continue
			}
		}
		if underWay == 0 {
			return
		}
		select {
		case s := <-answers:
			underWay--
			w.conclude(ctx, s)
		case <-w.many:
		}
	}
}

// prepare builds what can be sent of a batch now. It returns nil if nothing can.
func (w *Writer) prepare(ctx context.Context, batch []*entry) *sending {
	if err := w.load(ctx, batch); err != nil {
		w.answer(batch, err)
		return nil
	}
	if batch = w.room(ctx, w.repeatable(batch)); len(batch) == 0 {
		return nil
	}
	s := &sending{batch: batch, now: w.now, fill: w.fill, maxOps: w.maxOps}
	s.txn, s.opened = w.txn(batch)
	for _, e := range batch {
		if e.call != nil {
			e.call.underWay++
		}
		l := w.lanes[bucket(e.Record.Priority)]
		l.items, l.bytes = l.items+1, l.bytes+len(e.value)
	}
	return s
}

// send sends a batch. One behind which few wait is sent from here, which saves them
// two switches.
func (w *Writer) send(ctx context.Context, s *sending, answers chan<- *sending, beside bool) {
	carry := func() {
		s.r, s.err = w.e.Do(ctx, s.txn)
		answers <- s
	}
	if beside || w.waits() >= worthwhile {
		go carry()
	} else {
		carry()
	}
}

// free tells whether an entry may go beside the batches that are under way: it needs
// to know nothing of how they end, and its call has nothing in them.
func (w *Writer) free(e *entry) bool {
	l := w.lanes[bucket(e.Record.Priority)]
	return w.fill.known && w.fill.mod == 0 && e.Capacity == 0 && l != nil && l.after == nil && !e.alone && e.tries == 0 &&
		(e.call == nil || e.call.underWay == 0) && (e.Dedup == "" || w.windows.serve(e.Window))
}

// conclude takes the answer to a batch, and then waits for those who come back.
func (w *Writer) conclude(ctx context.Context, s *sending) {
	for _, e := range s.batch {
		if e.call != nil {
			e.call.underWay--
		}
	}
	if s.err == nil && s.r.Succeeded {
		w.wrote(s)
	} else {
		w.failed(ctx, s)
	}
	if len(s.batch) > 1 {
		commit.Gather(len(s.batch), w.maxOps, w.waits)
	}
}

// wrote answers a batch that was applied.
func (w *Writer) wrote(s *sending) {
	w.seen = s.r.Revision
	if w.now.mod == s.now.mod {
		w.now.listed = true
	}
	if s.fill.mod != 0 { // then it went alone
		w.fill = fill{known: true, mod: s.r.Revision, items: s.fill.items + int64(len(s.batch))}
	}
	for _, l := range s.opened {
		l.mod, l.after = s.r.Revision, nil
	}
	if len(w.lanes) > 1 {
		w.jumps.Add(1)
	}
	for i, e := range s.batch {
		id := e.id
		if e.Dedup != "" && e.asked == nil {
			if nested := s.r.Nested(i); !nested.Succeeded {
				if kvs := nested.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
					id = string(kvs[0].Value)
				}
			}
		}
		e.done <- placed{id: id}
		if i%turn == turn-1 {
			runtime.Gosched()
		}
	}
}

// failed goes on with a batch that was not applied, or of which nobody knows.
func (w *Writer) failed(ctx context.Context, s *sending) {
	maps.DeleteFunc(w.lanes, func(_ string, l *lane) bool { return slices.Contains(s.opened, l) })
	err, batch := s.err, s.batch
	switch {
	case err == nil && s.r.Revision < w.seen: // the other one came later, and was answered first
		w.forget()
		w.again(batch)
	case err == nil:
		w.learn(s.txn.Else, s.r.Responses, s.r.Revision)
		w.again(batch)
	case errors.Is(err, commit.ErrUnknown):
		w.unknown(ctx, s)
	case errors.Is(err, rpctypes.ErrTooManyOps) && s.maxOps > 8:
		w.maxOps = min(w.maxOps, s.maxOps/2)
		w.again(batch)
	case len(batch) > 1:
		for _, e := range batch { // the fault of one is not the others'
			e.alone = true
		}
		w.again(batch)
	case batch[0].Dedup != "" && errors.Is(err, rpctypes.ErrLeaseNotFound) && batch[0].tries < 3:
		batch[0].tries++
		w.windows.forget(batch[0].Window)
		w.again(batch)
	default:
		w.answer(batch, err)
	}
}
