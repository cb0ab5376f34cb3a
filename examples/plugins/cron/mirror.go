package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/recipe"
)

// keys are those of one namespace:
//
//	job/<name>        the job and its runs
//	run/<name>/<id>   who has the run; attached to the worker's lease
//	namespace/<name>  in the namespace "default" only: there are jobs in it
//
// Names are escaped, so that a "/" is always one of these.
type keys struct{ start, end string }

func newKeys(env recipe.Env, namespace string) (keys, error) {
	start, end, err := env.Keys(namespace)
	return keys{start, end}, err
}

func (k keys) job(name string) string { return k.start + "job/" + url.PathEscape(name) }

func (k keys) run(name, id string) string { return k.start + "run/" + url.PathEscape(name) + "/" + id }

func (k keys) runs(name string) string { return k.start + "run/" + url.PathEscape(name) + "/" }

func (k keys) namespace(name string) string { return k.start + "namespace/" + url.PathEscape(name) }

// known is a job and the revision of its record.
type known struct {
	job job
	rev int64
}

// run is a run that a worker has.
type run struct {
	Name  string `json:"name"`
	ID    string `json:"id"`
	Owner string `json:"owner"`
	token int64
	lease clientv3.LeaseID
}

// mirror is a namespace's keys in memory. It tells what may be done; what is done
// is decided by transactions.
type mirror struct {
	env   recipe.Env
	keys  keys
	found func(namespace string) // called for each namespace that is noted here

	mu      sync.Mutex
	jobs    map[string]known
	runs    map[string]run // by key
	changed chan struct{}  // closed at the next change
	loaded  bool
}

func newMirror(env recipe.Env, k keys, found func(string)) *mirror {
	return &mirror{env: env, keys: k, found: found, changed: make(chan struct{})}
}

// follow keeps the mirror up to date until ctx ends.
func (m *mirror) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := m.load(ctx)
		if ctx.Err() != nil {
			return
		}
		m.env.Log.Warn("the jobs are not followed for a moment", slog.Any("error", err))
		pause(ctx, time.Second)
	}
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// load reads everything and then watches, until something fails.
func (m *mirror) load(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errLoadEnds)
	got, err := m.env.Client.Get(ctx, m.keys.start, clientv3.WithRange(m.keys.end))
	if err != nil {
		return err
	}
	events := make([]*clientv3.Event, 0, len(got.Kvs))
	for _, kv := range got.Kvs {
		events = append(events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv})
	}
	m.apply(events, true)
	watch := m.env.Client.Watch(clientv3.WithRequireLeader(ctx), m.keys.start, clientv3.WithRange(m.keys.end), clientv3.WithRev(got.Header.Revision+1))
	for r := range watch {
		if err := r.Err(); err != nil {
			return err
		}
		m.apply(r.Events, false)
	}
	return errWatchEnded
}

var (
	errWatchEnded = errors.New("the watch has ended")
	errLoadEnds   = errors.New("the jobs are read again")
)

// apply takes events over; they are everything if all is true.
func (m *mirror) apply(events []*clientv3.Event, all bool) {
	var found []string
	m.mu.Lock()
	if all {
		m.jobs, m.runs, m.loaded = make(map[string]known), make(map[string]run), true
	}
	for _, e := range events {
		if ns, ok := m.one(e); ok {
			found = append(found, ns)
		}
	}
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	for _, ns := range found {
		m.found(ns)
	}
}

// one takes one event over, and returns the namespace that it notes.
func (m *mirror) one(e *clientv3.Event) (namespace string, ok bool) {
	key := string(e.Kv.Key)
	rest := strings.TrimPrefix(key, m.keys.start)
	kind, name, _ := strings.Cut(rest, "/")
	var err error
	switch gone := e.Type == clientv3.EventTypeDelete; {
	case kind == "namespace" && !gone:
		namespace, err = url.PathUnescape(name)
		ok = err == nil
	case kind == "job" && gone:
		if name, err = url.PathUnescape(name); err == nil {
			delete(m.jobs, name)
		}
	case kind == "job":
		var j job
		if j, err = decode(e.Kv.Value); err == nil {
			m.jobs[j.Name] = known{j, e.Kv.ModRevision}
		}
	case kind == "run" && gone:
		delete(m.runs, key)
	case kind == "run":
		var r run
		if r, err = decodeRun(e.Kv); err == nil {
			m.runs[key] = r
		}
	}
	if err != nil {
		m.env.Log.Warn("a key is not understood", slog.String("key", key), slog.Any("error", err))
	}
	return namespace, ok
}

// look calls f with what there is, which f must not change, and returns a
// channel that is closed at the next change.
func (m *mirror) look(f func(jobs map[string]known, runs map[string]run)) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loaded {
		f(m.jobs, m.runs)
	}
	return m.changed
}

// write puts a job whose record has not changed since rev (0: it must not
// exist); more operations and conditions may go along. It returns the revision
// of the write, 0 if the record has changed.
func write(ctx context.Context, env recipe.Env, k keys, j job, rev int64, conditions []clientv3.Cmp, more ...clientv3.Op) (int64, error) {
	key := k.job(j.Name)
	conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(key), "=", rev))
	resp, err := env.Client.Txn(ctx).If(conditions...).Then(append(more, clientv3.OpPut(key, j.encode()))...).Commit()
	if err != nil {
		return 0, recipe.Status(err)
	}
	if !resp.Succeeded {
		return 0, nil
	}
	return resp.Header.Revision, nil
}

func decodeRun(kv *mvccpb.KeyValue) (run, error) {
	r := run{token: kv.CreateRevision, lease: clientv3.LeaseID(kv.Lease)}
	if err := json.Unmarshal(kv.Value, &r); err != nil {
		return r, fmt.Errorf("a run's record: %w", err)
	}
	return r, nil
}

func (r run) encode() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Errorf("strings: %w", err))
	}
	return string(b)
}
