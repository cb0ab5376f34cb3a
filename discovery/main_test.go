package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/internal/keyspace"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd, coretest.WithChildren(children())) }

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = 60 * time.Second

func within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// session opens a session on a connection of its own, as another process would.
func session(tb testing.TB, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	return sessionOn(tb, etcd.Client(tb), opts...)
}

func sessionOn(tb testing.TB, c *clientv3.Client, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	s := must[*core.Session](tb)(core.NewSession(within(tb), c, opts...))
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func registrar(tb testing.TB, opts ...discovery.Option) *discovery.Registrar {
	tb.Helper()
	return registrarOn(tb, session(tb), opts...)
}

func registrarOn(tb testing.TB, s *core.Session, opts ...discovery.Option) *discovery.Registrar {
	tb.Helper()
	r := discovery.NewRegistrar(s, opts...)
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

func resolver(tb testing.TB, opts ...discovery.Option) *discovery.Resolver {
	tb.Helper()
	return resolverOn(tb, etcd.Client(tb), opts...)
}

func resolverOn(tb testing.TB, c *clientv3.Client, opts ...discovery.Option) *discovery.Resolver {
	tb.Helper()
	r := discovery.NewResolver(c, opts...)
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

// instance is the n-th of a service.
func instance(service string, n int) discovery.Instance {
	return discovery.Instance{Service: service, ID: fmt.Sprintf("i-%04d", n), Addr: fmt.Sprintf("10.0.%d.%d:80", n/250, n%250)}
}

func registered(tb testing.TB, r *discovery.Registrar, i discovery.Instance) *discovery.Registration {
	tb.Helper()
	return must[*discovery.Registration](tb)(r.Register(within(tb), i))
}

func resolved(tb testing.TB, r *discovery.Resolver, service string) *discovery.Snapshot {
	tb.Helper()
	return must[*discovery.Snapshot](tb)(r.Resolve(within(tb), service))
}

// ids are those of the instances that can be sent to.
func ids(s *discovery.Snapshot) string {
	var all []string
	for _, i := range s.Instances {
		all = append(all, i.ID)
	}
	return strings.Join(all, " ")
}

// A watcher pulls the snapshots of a service.
type watcher struct {
	tb   testing.TB
	next func() (*discovery.Snapshot, error, bool)
}

func watching(tb testing.TB, r *discovery.Resolver, service string) *watcher {
	tb.Helper()
	next, stop := iter.Pull2(r.Watch(within(tb), service))
	tb.Cleanup(stop)
	return &watcher{tb, next}
}

// until returns the first snapshot that is as wanted.
func (w *watcher) until(what string, ok func(*discovery.Snapshot) bool) *discovery.Snapshot {
	w.tb.Helper()
	var last *discovery.Snapshot
	for {
		s, err, more := w.next()
		if err != nil || !more {
			w.tb.Fatalf("never: %s; at last %+v, %v", what, last, err)
		}
		if last = s; ok(s) {
			return s
		}
	}
}

func (w *watcher) sees(want string) *discovery.Snapshot {
	w.tb.Helper()
	return w.until("instances "+want, func(s *discovery.Snapshot) bool { return ids(s) == want })
}

// eventually waits until cond holds. It asks etcd, so it does not spin idly.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			tb.Fatalf("never: %s", what)
		}
		etcd.Revision(tb)
	}
}

// ended waits for the end of a registration, and returns its cause.
func ended(tb testing.TB, o core.Ownership) error {
	tb.Helper()
	select {
	case <-o.Context().Done():
	case <-time.After(patience):
		tb.Fatal("the registration does not end")
	}
	return context.Cause(o.Context())
}

func isAll(tb testing.TB, err error, wanted ...error) {
	tb.Helper()
	for _, w := range wanted {
		if !errors.Is(err, w) {
			tb.Errorf("error %v, want one that is %v", err, w)
		}
	}
}

// keyOf is the key of an instance.
func keyOf(service, id string) string {
	return keyspace.Prefix("default", "discovery", service) + "instance/" + keyspace.Escape(id)
}

// stands returns the key of an instance, nil if there is none.
func stands(tb testing.TB, service, id string) *mvccpb.KeyValue {
	tb.Helper()
	if kvs := etcd.Dump(tb, keyOf(service, id)); len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}

func del(tb testing.TB, keys ...string) {
	tb.Helper()
	var ops []clientv3.Op
	for _, k := range keys {
		ops = append(ops, clientv3.OpDelete(k))
	}
	must[*clientv3.TxnResponse](tb)(etcd.Client(tb).Txn(within(tb)).Then(ops...).Commit())
}

func leaseOf(kv *mvccpb.KeyValue) clientv3.LeaseID { return clientv3.LeaseID(kv.Lease) }
