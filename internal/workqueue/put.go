package workqueue

import (
	"slices"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

const (
	// maxOps is how many operations a transaction of this package has at most:
	// etcd takes 128, and counts those of the largest nested one too.
	maxOps = 120
	// maxBatch is how many bytes it has, but for one item that is larger.
	maxBatch = 512 << 10
)

// pick takes the next batch. Two items with one dedup key never share one: each
// guard is compared with the state before the whole transaction. One that is to go
// beside others ends before the first item that has to wait for them.
func (w *Writer) pick(beside bool) []*entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	var batch, rest []*entry
	ops, bytes := 0, 0
	taken := make(map[string]struct{})
	groups := make(map[string]bool) // and whether a further item can follow in the batch
	for i, e := range w.pending {
		ops, bytes = ops+1, bytes+len(e.value)
		behind := beside && !w.free(e)
		if behind && len(batch) == 0 {
			return nil
		}
		if len(batch) > 0 && (ops+6 > w.maxOps || bytes > maxBatch || e.alone || batch[0].alone || behind) {
			rest = append(rest, w.pending[i:]...)
			break
		}
		_, twice := taken[e.Dedup]
		follows, known := groups[e.Record.Group]
		switch {
		case e.Dedup != "" && twice, e.Record.Group != "" && known && !follows:
			rest = append(rest, e)
			groups[e.Record.Group] = false // no later one may overtake it
			continue
		case e.Record.Group != "" && !known:
			groups[e.Record.Group] = e.Dedup == "" && e.asked == nil
		}
		if e.Dedup != "" {
			taken[e.Dedup] = struct{}{}
		}
		e.sent = true
		batch = append(batch, e)
	}
	w.pending = rest
	if len(batch) == 0 && !beside {
		w.writing = false
	}
	return batch
}

// incarnation is what a producer knows of a queue that may be removed, and come to be
// anew: nothing that was sent before a removal is applied after it.
type incarnation struct {
	mod    int64 // of the key that each removal writes; 0 while there was none
	listed bool
}

// look returns the reads of everything that a batch's guards compare.
func (w *Writer) look(batch []*entry) []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpGet(w.root.fill()), clientv3.OpGet(w.root.removed())}
	if w.names != "" {
		ops = append(ops, clientv3.OpGet(w.names))
	}
	for _, b := range buckets(batch) {
		ops = append(ops, clientv3.OpGet(w.root.tail(b)))
	}
	return ops
}

func buckets(batch []*entry) []string {
	var bs []string
	for _, e := range batch {
		if b := bucket(e.Record.Priority); !slices.Contains(bs, b) {
			bs = append(bs, b)
		}
	}
	return bs
}

// learn takes over the answers to look, as of a revision.
func (w *Writer) learn(ops []clientv3.Op, responses []*pb.ResponseOp, revision int64) {
	w.seen = revision
	for i, op := range ops {
		resp := responses[i].GetResponseRange()
		var mod int64
		var value []byte
		if len(resp.GetKvs()) > 0 {
			mod, value = resp.Kvs[0].ModRevision, resp.Kvs[0].Value
		}
		key := string(op.KeyBytes())
		switch key {
		case w.root.fill():
			w.fill = fill{known: true, mod: mod, items: number(value)}
			continue
		case w.root.removed():
			w.now.mod = mod
			continue
		case w.names:
			w.now.listed = mod != 0
			continue
		}
		b := idOf(key)
		if l := w.lanes[b]; l == nil || l.mod != mod {
			w.lanes[b] = w.root.lane(b, string(value), mod, max(number(value), 1))
		}
	}
}

// txn builds the transaction of a batch, and returns the lanes whose next segment it
// opens, as they will be.
func (w *Writer) txn(batch []*entry) (t commit.Txn, opened []*lane) {
	bs := buckets(batch)
	for _, b := range bs {
		if l := w.lanes[b]; l.full(w.seen) {
			w.lanes[b] = w.root.laneBehind(l)
		}
	}
	t = commit.Txn{Scope: []string{string(w.root)}, Else: w.look(batch), Likely: true}
	t.Then = make([]clientv3.Op, 0, len(batch)+4)
	t.If = append(t.If, unchanged(w.root.fill(), w.fill.mod), unchanged(w.root.removed(), w.now.mod))
	groups := make(map[string]struct{})
	for _, e := range batch {
		if g := e.Record.Group; g != "" {
			t.Scope = append(t.Scope, string(w.root)+"group/"+g)
		}
		t.Then = append(t.Then, w.place(e, groups))
	}
	if w.fill.mod != 0 {
		t.Then = append(t.Then, clientv3.OpPut(w.root.fill(), strconv.FormatInt(w.fill.items+int64(len(batch)), 10)))
	}
	if w.names != "" && !w.now.listed {
		t.Then = append(t.Then, clientv3.OpPut(w.names, ""))
	}
	for _, b := range bs {
		l := w.lanes[b]
		t.If = append(t.If, l.open())
		if l.mod == expected {
			opened = append(opened, l)
			t.Then = append(t.Then, clientv3.OpPut(l.key, l.value))
		}
	}
	return t, opened
}

// place returns the operation that puts one item where it belongs.
func (w *Writer) place(e *entry, groups map[string]struct{}) clientv3.Op {
	b := bucket(e.Record.Priority)
	at := w.lanes[b].at + e.id
	if e.Delay > 0 {
		at = w.root.laterAt(time.Now().Add(e.Delay).UnixMilli(), e.id)
	}
	op := put(at, e.value)
	if g := e.Record.Group; g != "" {
		behind := put(w.root.next(g)+at[len(w.root.lanes())+len(b)+1:], e.value)
		if _, first := groups[g]; first { // one before it in the batch is, or is behind, the group's item
			op = behind
		} else {
			op = clientv3.OpTxn([]clientv3.Cmp{absent(w.root.busy(g))},
				[]clientv3.Op{clientv3.OpPut(w.root.busy(g), e.id), op}, []clientv3.Op{behind})
			groups[g] = struct{}{}
		}
	}
	if e.Dedup != "" {
		key := w.root.dedup(e.Dedup)
		op = clientv3.OpTxn([]clientv3.Cmp{absent(key)},
			[]clientv3.Op{clientv3.OpPut(key, e.id, clientv3.WithLease(w.windows.lease(e.Window))), op}, []clientv3.Op{clientv3.OpGet(key)})
	}
	if e.asked != nil {
		op = clientv3.OpTxn([]clientv3.Cmp{unchanged(e.asked.key, e.asked.mod)},
			[]clientv3.Op{clientv3.OpDelete(e.asked.key), op}, nil)
	}
	return op
}
