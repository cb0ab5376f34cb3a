package waitqueue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
)

// A Contender owns a name or waits for it.
type Contender struct {
	Name   string
	Holds  bool
	Token  int64 // of an owner
	Record Record
	Lease  int64 // of the session; 0 if no session wrote the key

	key      string // grant, or ticket
	revision int64  // of the key
	asOf     int64  // the revision at which it was read
	ticket   *mvccpb.KeyValue
}

// Revision is that of the grant, or with which the ticket was put; 0 for one who
// is not in etcd.
func (c *Contender) Revision() int64 {
	if c.revision == math.MaxInt64 {
		return 0
	}
	return c.revision
}

// is tells whether it is named by this id, or this owner.
func (c *Contender) is(whom string) bool { return c.Record.ID == whom || c.Record.Owner == whom }

// grace is the time that it has to let go once it is told.
func (c *Contender) grace() time.Duration {
	return min(time.Duration(c.Record.Grace)*time.Millisecond, MaxGrace)
}

// Contenders returns who owns and who waits, name by name in the order given,
// owners first and then the line in order. It is one linearizable read. Of the
// goroutines that wait behind another one of their session it shows those of
// this session only: they are not in etcd.
func (q *Queue) Contenders(ctx context.Context, names []string) ([]Contender, error) {
	if err := (&Request{Names: names}).checkNames(); err != nil {
		return nil, fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	var ops []clientv3.Op
	for _, named := range names {
		k := q.keys(named)
		ops = append(ops, get(k.owners()), get(k.reads()), get(k.line()))
	}
	resp, err := q.e.Client().Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, err
	}
	var all []Contender
	for i, named := range names {
		r := resp.Responses[3*i : 3*i+3]
		line := r[2].GetResponseRange().Kvs
		for _, kv := range append(r[0].GetResponseRange().Kvs, r[1].GetResponseRange().Kvs...) {
			if string(kv.Key) != q.keys(named).limit() {
				all = append(all, holder(named, kv, line))
			}
		}
		all = append(all, inLineOrder(append(waiters(named, line), q.localWaiters(named)...))...)
	}
	for i := range all {
		all[i].asOf = resp.Header.Revision
	}
	return all, nil
}

// holder reads a grant; the index of its token is in its ticket, if it has one.
func holder(name string, kv *mvccpb.KeyValue, line []*mvccpb.KeyValue) Contender {
	c := Contender{Name: name, Holds: true, Record: recordOf(kv), key: string(kv.Key), revision: kv.ModRevision, Lease: kv.Lease}
	index := 0
	for _, t := range line {
		var v ticketValue
		if t.ModRevision == kv.ModRevision && json.Unmarshal(t.Value, &v) == nil && ticketRecord(v).ID == c.Record.ID {
			index = v.Index
		}
	}
	c.Token = kv.ModRevision<<tokenShift | int64(index)
	return c
}

func waiters(name string, line []*mvccpb.KeyValue) []Contender {
	var waiters []Contender
	for _, kv := range line {
		var v ticketValue
		if kv.Version == waiting && json.Unmarshal(kv.Value, &v) == nil {
			waiters = append(waiters, Contender{Name: name, Record: ticketRecord(v), key: string(kv.Key), revision: kv.CreateRevision, Lease: kv.Lease, ticket: kv})
		}
	}
	return waiters
}

// localWaiters are those of this session who stand behind its ticket.
func (q *Queue) localWaiters(named string) []Contender {
	q.mu.Lock()
	n := q.names[named]
	q.mu.Unlock()
	if n == nil {
		return nil
	}
	n.mu.Lock()
	lines := slices.Collect(maps.Values(n.lines))
	n.mu.Unlock()
	var waiters []Contender
	for _, l := range lines {
		l.mu.Lock()
		for _, a := range l.queue {
			waiters = append(waiters, Contender{Name: named, Record: a.record, Lease: int64(q.e.Lease()), key: a.parts[0].ticket, revision: math.MaxInt64})
		}
		l.mu.Unlock()
	}
	return waiters
}

func inLineOrder(waiters []Contender) []Contender {
	slices.SortStableFunc(waiters, func(a, b Contender) int {
		return cmp.Or(cmp.Compare(bucketPart(a.key), bucketPart(b.key)), cmp.Compare(a.revision, b.revision))
	})
	return waiters
}

func ticketRecord(v ticketValue) Record {
	var r Record
	_ = json.Unmarshal(v.Record, &r)
	return r
}
