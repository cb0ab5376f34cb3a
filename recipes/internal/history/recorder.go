package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/watch"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// maxNamespaces bounds how many namespaces one recorder follows.
const maxNamespaces = 1000

// A Config sets up a Recorder.
type Config struct {
	Client   *clientv3.Client
	Instance string        // the recipe's segment in keys
	Keep     int           // endings of a name
	Age      time.Duration // after which an idle name is forgotten
	Log      *slog.Logger
	// Beat is how often an idle recorder notes that it saw everything, so that
	// compaction takes nothing that it would have to look at again. 0: a minute.
	Beat time.Duration
}

// A Recorder writes the history of every namespace that it heard of, unless
// another host's does. Run runs it.
type Recorder struct {
	cfg     Config
	streams *watch.Streams
	fresh   chan string // namespaces that were seen here for the first time
	seen    sync.Map    // namespaces that need not be told again
}

// NewRecorder returns a recorder.
func NewRecorder(cfg Config) *Recorder {
	if cfg.Beat == 0 {
		cfg.Beat = time.Minute
	}
	return &Recorder{cfg: cfg, streams: new(watch.Streams), fresh: make(chan string, 64)}
}

// Saw tells the recorder of a namespace. It costs nothing when the namespace is
// known, and never blocks.
func (r *Recorder) Saw(namespace string) {
	if _, known := r.seen.Load(namespace); known {
		return
	}
	select {
	case r.fresh <- namespace:
		r.seen.Store(namespace, true)
	default: // the next call tells it again
	}
}

// Run records as long as the session lives; s is the recorder's own. It returns
// why it ended, when all that it started has ended.
func (r *Recorder) Run(ctx context.Context, s *core.Session) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel(nil)
	all.Go(func() { r.announce(ctx) })
	running := map[string]bool{}
	start := func(namespace string) {
		if running[namespace] || len(running) >= maxNamespaces {
			return
		}
		running[namespace] = true
		r.seen.Store(namespace, true)
		all.Go(func() { r.follow(ctx, s, namespace) })
	}
	start(DefaultNamespace)
	prefix := namespaces(r.cfg.Instance)
	for b, err := range watch.Observe(ctx, r.cfg.Client, prefix, watch.ObserveOptions{Streams: r.streams, Logger: r.cfg.Log}) {
		if err != nil {
			return err
		}
		for _, ev := range b.Events {
			namespace, err := keyspace.Unescape(string(ev.Kv.Key)[len(prefix):])
			if ev.Type == mvccpb.PUT && err == nil && keyspace.CheckNamespace("namespace", namespace) == nil {
				start(namespace)
			}
		}
	}
	return context.Cause(ctx)
}

// announce writes down the namespaces that are seen for the first time, for the
// recorders of all hosts.
func (r *Recorder) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case namespace := <-r.fresh:
			key := namespaceKey(r.cfg.Instance, namespace)
			_, err := r.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
				Then(clientv3.OpPut(key, encode(mark{V: version, At: time.Now().UTC()}))).Commit()
			if err != nil {
				r.seen.Delete(namespace)
			}
		}
	}
}

// follow records one namespace whenever no other host does, until ctx ends.
func (r *Recorder) follow(ctx context.Context, s *core.Session, namespace string) {
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval = 10 * time.Second
	for ctx.Err() == nil {
		t := &term{r: r, space: space{state.NewSpace(namespace, r.cfg.Instance)}, lease: s.Lease()}
		err := t.campaign(ctx)
		if err == nil {
			pause.Reset()
			err = t.record(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		r.cfg.Log.Debug("history: not recording", "recipe", t.r.cfg.Instance, "namespace", namespace, "err", err)
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// A term is one time of being the recorder of a namespace.
type term struct {
	space

	r     *Recorder
	lease clientv3.LeaseID
	rev   int64 // of the recorder's key: what everything written is guarded by
}

var errDeposed = errors.New("another recorder took over")

// campaign waits until no other recorder works on the namespace, and is it.
func (t *term) campaign(ctx context.Context) error {
	key := t.recorder()
	for {
		resp, err := t.r.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, encode(mark{V: version, At: time.Now().UTC()}), clientv3.WithLease(t.lease))).
			Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			return fmt.Errorf("campaign: %w", err)
		}
		if resp.Succeeded {
			t.rev = resp.Header.Revision
			return nil
		}
		kvs := resp.Responses[0].GetResponseRange().Kvs
		if len(kvs) > 0 && clientv3.LeaseID(kvs[0].Lease) == t.lease {
			t.rev = kvs[0].ModRevision // of a request whose reply was lost, or of the term before
			return nil
		}
		if err := t.gone(ctx, key, resp.Header.Revision+1); err != nil {
			return err
		}
	}
}

// gone waits until the recorder's key is deleted, or until there is reason to
// look again.
func (t *term) gone(ctx context.Context, key string, from int64) error {
	wake := make(chan struct{}, 1)
	tell := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	w, err := watch.Key(ctx, t.r.cfg.Client, key, watch.Options{Revision: from, NoPut: true, Streams: t.r.streams,
		Event: func(*clientv3.Event) { tell() }, Lost: func(error) { tell() }})
	if err != nil {
		return err
	}
	defer w.Close()
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// commit sends one transaction that only the recorder of the term may commit.
func (t *term) commit(ctx context.Context, ops []clientv3.Op) error {
	resp, err := t.r.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(t.recorder()), "=", t.rev)).Then(ops...).Commit()
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return errDeposed
	}
	return nil
}
