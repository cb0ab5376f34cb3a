package workqueue

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/engine"
)

const (
	frontLimit = 128 // keys of in/front that one look reads
	maxWindow  = 64  // segments that one look reads of a lane
	wideLook   = 1024
)

// candidate is an item that waits, as it was read.
type candidate struct {
	key    string
	bucket string
	lane   int64 // 0 in front; else its segment
	create int64
	mod    int64
	value  []byte
}

// byOrder is the order of delivery.
func byOrder(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(a.bucket, b.bucket),
		cmp.Compare(a.lane, b.lane),
		cmp.Compare(a.create, b.create),
		strings.Compare(a.key, b.key),
	)
}

// scanner finds the items that are first in a queue, whatever comes behind them.
// It is not safe for concurrent use.
type scanner struct {
	root   keys
	lanes  map[string]*head
	paused bool
	rev    int64            // of the last look
	tails  map[string]int64 // the open segments, as it saw them
	front  *candidate       // the last one of in/front that was read; nil if all were
}

// head is where a lane is read: nothing is in front of the segment.
type head struct {
	segment int64
	window  int64 // how many segments to read at once
	upto    int64 // where the last look ended
}

// candidateOf makes a candidate of a key under in/front or in/lane.
func (k keys) candidateOf(kv *mvccpb.KeyValue) (candidate, bool) {
	key := string(kv.Key)
	c := candidate{key: key, mod: kv.ModRevision, create: kv.CreateRevision, value: kv.Value}
	if rest, ok := strings.CutPrefix(key, k.front()); ok {
		b, rest, _ := strings.Cut(rest, "/")
		ord, _, ok := strings.Cut(rest, "/")
		n, err := strconv.ParseInt(ord, 16, 64)
		c.bucket, c.create = b, n
		return c, ok && err == nil
	}
	rest, ok := strings.CutPrefix(key, k.lanes())
	if !ok {
		return c, false
	}
	b, rest, _ := strings.Cut(rest, "/")
	segment, _, ok := strings.Cut(rest, "/")
	n, err := strconv.ParseInt(segment, 16, 64)
	c.bucket, c.lane = b, max(n, 1)
	return c, ok && err == nil
}

// look reads the first items, all at one revision, in their order. It reads at
// least one item if there is one, and a bounded number of keys: some segments of
// every lane.
func (s *scanner) look(ctx context.Context, e *engine.Engine, want int) ([]candidate, error) {
	for {
		found, again, err := s.once(ctx, e, want)
		if err != nil || !again {
			slices.SortFunc(found, byOrder)
			return found, err
		}
	}
}

// once reads once, and tells whether lanes are left that were not read far
// enough.
func (s *scanner) once(ctx context.Context, e *engine.Engine, want int) (found []candidate, again bool, err error) {
	k := s.root
	ops := []clientv3.Op{clientv3.OpGet(k.paused(), clientv3.WithKeysOnly()), all(k.tails()), all(k.front(), clientv3.WithLimit(frontLimit))}
	first := s.lanes == nil
	if first {
		ops = append(ops, all(k.heads()))
	}
	fixed := len(ops)
	var lanes []string
	for b, h := range s.lanes {
		lanes, h.upto = append(lanes, b), h.segment+h.window
		ops = append(ops, clientv3.OpGet(k.segment(b, h.segment), clientv3.WithRange(k.segment(b, h.segment+h.window))))
	}
	resp, err := read(ctx, e, ops...)
	if err != nil {
		return nil, false, err
	}
	at := func(i int) []*mvccpb.KeyValue { return resp.Responses[i].GetResponseRange().GetKvs() }
	s.paused, s.rev = len(at(0)) > 0, resp.Header.Revision
	s.tails = make(map[string]int64)
	for _, kv := range at(1) {
		s.tails[idOf(string(kv.Key))] = max(number(kv.Value), 1)
	}
	found = s.fronts(at(2))
	if first {
		s.begin(at(3), want)
	}
	for i, b := range lanes {
		kvs := at(fixed + i)
		found = s.collect(found, kvs)
		again = s.lanes[b].advance(k, kvs, s.tails[b], want) || again
	}
	for b := range s.tails {
		if s.lanes[b] == nil {
			s.lanes[b] = &head{segment: 1, window: segmentsOf(want)}
			again = true
		}
	}
	return found, again || first && len(s.lanes) > 0, nil
}

// fronts collects what was read of in/front.
func (s *scanner) fronts(kvs []*mvccpb.KeyValue) []candidate {
	s.front = nil
	found := s.collect(nil, kvs)
	if len(kvs) == frontLimit && len(found) > 0 {
		last := found[len(found)-1]
		s.front = &last
	}
	return found
}

// sure splits what was found, in its order, into what comes first in the queue, and
// what may come behind an item that was not read: a lane is read some segments at
// a time, and those of a lower priority wait for all of it. There is a first one
// if anything was found.
func (s *scanner) sure(found []candidate) (sure, rest []candidate) {
	n := len(found)
	if b := s.unread(); b != "" {
		n = sort.Search(n, func(i int) bool { return found[i].bucket > b })
	}
	if s.front != nil {
		n = sort.Search(n, func(i int) bool { return byOrder(found[i], *s.front) > 0 })
	}
	return found[:n:n], found[n:]
}

// partial tells whether there may be items that the last look did not read.
func (s *scanner) partial() bool { return s.front != nil || s.unread() != "" }

// unread returns the first lane that was not read to its end, "" if all were.
func (s *scanner) unread() string {
	first := ""
	for b, h := range s.lanes {
		if h.upto <= s.tails[b] && (first == "" || b < first) {
			first = b
		}
	}
	return first
}

// segmentsOf is how many segments may hold that many items.
func segmentsOf(want int) int64 { return min(int64(want/segmentItems)+1, maxWindow) }

// begin takes over where others have read to.
func (s *scanner) begin(heads []*mvccpb.KeyValue, want int) {
	s.lanes = make(map[string]*head)
	for _, kv := range heads {
		s.lanes[idOf(string(kv.Key))] = &head{segment: max(number(kv.Value), 1), window: segmentsOf(want)}
	}
}

func (s *scanner) collect(found []candidate, kvs []*mvccpb.KeyValue) []candidate {
	for _, kv := range kvs {
		if c, ok := s.root.candidateOf(kv); ok {
			found = append(found, c)
		}
	}
	return found
}

// advance moves the head to the first segment that may have items, given what
// was read and which segment is open. It tells whether to read on.
func (h *head) advance(k keys, kvs []*mvccpb.KeyValue, open int64, want int) (again bool) {
	if open < h.segment { // somebody deleted the lane's key
		h.segment, h.window = max(open, 1), 1
		return len(kvs) == 0 && open > 0
	}
	if len(kvs) > 0 {
		if c, ok := k.candidateOf(kvs[0]); ok {
			h.segment = max(h.segment, min(c.lane, open))
		}
		switch {
		case len(kvs) < want:
			h.window = min(2*h.window, maxWindow)
		case len(kvs) > wideLook:
			h.window = max(h.window/2, 1)
		}
		return false
	}
	beyond := h.segment + h.window
	h.segment = min(beyond, open)
	if beyond > open {
		h.window = 1
		return false
	}
	h.window = min(2*h.window, maxWindow)
	return true
}

// persist returns puts of the heads that have moved far since they were told
// others.
func (s *scanner) persist(told map[string]int64) []clientv3.Op {
	var ops []clientv3.Op
	for b, h := range s.lanes {
		if h.segment-told[b] >= 16 {
			told[b] = h.segment
			ops = append(ops, clientv3.OpPut(s.root.head(b), strconv.FormatInt(h.segment, 10)))
		}
	}
	return ops
}
