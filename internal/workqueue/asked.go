package workqueue

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// request is the line in front of the record under in/asked: what an Enqueue
// would have been told.
type request struct {
	V        int    `json:"v"`
	Delay    int64  `json:"delayMs,omitempty"`
	Dedup    string `json:"dedup,omitempty"`
	Window   int64  `json:"windowMs,omitempty"`
	Capacity int    `json:"capacity,omitempty"`
}

// Ask returns the operation that enqueues an item in whatever transaction it is
// part of. The item comes to its place afterwards: at once if the transaction
// is an Ack of this package, else when somebody waits for items of the queue.
func (w *Writer) Ask(p Put) clientv3.Op {
	line, _ := json.Marshal(request{V: recordVersion, Delay: p.Delay.Milliseconds(), Dedup: p.Dedup,
		Window: p.Window.Milliseconds(), Capacity: p.Capacity}) // plain fields always marshal
	return clientv3.OpPut(w.root.asked()+w.NewID(), string(line)+"\n"+p.Record.encode())
}

// placeAsked puts what other transactions asked for in its place, and waits for
// it. What there is no room for stays where it is.
func (w *Writer) placeAsked(ctx context.Context, kvs []*mvccpb.KeyValue) {
	var entries []*entry
	for _, kv := range kvs {
		if e, ok := askedEntry(string(kv.Key), kv.ModRevision, kv.Value); ok {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return
	}
	together := new(call)
	for _, e := range entries {
		e.call = together
	}
	w.submit(entries)
	for _, e := range entries {
		_ = w.await(ctx, e)
	}
}

func askedEntry(key string, mod int64, value []byte) (*entry, bool) {
	line, rest, ok := bytes.Cut(value, []byte("\n"))
	var r request
	if !ok || json.Unmarshal(line, &r) != nil {
		return nil, false
	}
	rec, err := decode(rest)
	if err != nil {
		return nil, false
	}
	return &entry{id: idOf(key), value: rec.bytes(), done: make(chan placed, 1), Put: Put{Record: rec,
		Delay: time.Duration(r.Delay) * time.Millisecond, Dedup: r.Dedup, Window: time.Duration(r.Window) * time.Millisecond,
		Capacity: r.Capacity, asked: &asked{key: key, mod: mod}}}, true
}

// place puts what a transaction of this session, applied at a revision, asked
// for in its place, whichever queues it is for.
func place(ctx context.Context, e *engine.Engine, ops []clientv3.Op, revision int64) {
	byRoot := make(map[keys][]*mvccpb.KeyValue)
	var order []keys
	for _, op := range ops {
		root, _, ok := strings.Cut(string(op.KeyBytes()), "/"+keys("").asked())
		if !ok || !op.IsPut() {
			continue
		}
		k := keys(root + "/")
		if _, known := byRoot[k]; !known {
			order = append(order, k)
		}
		byRoot[k] = append(byRoot[k], &mvccpb.KeyValue{Key: op.KeyBytes(), Value: op.ValueBytes(), ModRevision: revision})
	}
	for _, k := range order {
		parsed, err := keyspace.Parse(string(k))
		if err != nil || parsed.Recipe != recipe || parsed.Rest != "" {
			continue // a key of somebody else that looks alike
		}
		WriterFor(e, string(k), Listed(parsed.Namespace, parsed.Name)).placeAsked(ctx, byRoot[k])
	}
}

// Listed returns the key under which a queue is listed.
func Listed(namespace, name string) string { return Names(namespace) + keyspace.Escape(name) }
