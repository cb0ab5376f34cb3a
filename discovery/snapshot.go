package discovery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// A Snapshot is what a reader knows of a service at one moment: all of it, never
// a part. It is shared by all readers: do not change it.
type Snapshot struct {
	// Service is the service that was asked for.
	Service string
	// Instances can be sent to: they are passing or warning. Sorted by ID.
	Instances []Instance
	// Others are registered, and are not to be sent to: critical, draining, or in
	// maintenance. Sorted by ID.
	Others []Instance
	// Revision is etcd's, as of which all this is so.
	Revision int64
	// Stale says that it may not be so any more.
	Stale bool
	// Cause says why it is stale: etcd has not been heard of, or [ErrMassLoss], or
	// [ErrFromDisk].
	Cause error
	// Kept is how many of Instances vanished, and are here because of the guard
	// against mass losses.
	Kept int
	// At is when it began to be what the reader knows.
	At time.Time

	balance *balance
}

// Lookup reads a service once, from etcd, as it is now. It is for programs that
// ask once; a [Resolver] answers from memory, and guards against mass losses.
// A service that is not registered is an empty snapshot.
func Lookup(ctx context.Context, c *clientv3.Client, namespace, service string) (*Snapshot, error) {
	if err := checkService(namespace, service); err != nil {
		return nil, fmt.Errorf("service %q: %w", service, err)
	}
	prefix := servicePrefix(namespace, service)
	resp, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("service %q: %w", service, err)
	}
	t := newTable(service, prefix)
	for _, kv := range resp.Kvs {
		t.put(kv)
	}
	s := t.snapshot(nil)
	s.Revision, s.balance = resp.Header.Revision, newBalance()
	return s, nil
}

// A Service is one line of a registry.
type Service struct {
	// Name is the service's.
	Name string
	// Instances counts those that are registered, Usable those of them that can be
	// sent to.
	Instances, Usable int
}

// Services lists the services of a namespace that have an instance, sorted by
// the name's spelling in keys. It reads etcd, page by page.
func Services(ctx context.Context, c *clientv3.Client, namespace string) ([]Service, error) {
	if err := keyspace.CheckNamespace("namespace", namespace); err != nil {
		return nil, fmt.Errorf("services: %w", invalid(err))
	}
	const page = 500
	var all []Service
	start := keyspace.RecipePrefix(namespace, recipe)
	end := keyspace.End(start)
	for {
		resp, err := c.Get(ctx, start, clientv3.WithRange(end), clientv3.WithLimit(page))
		if err != nil {
			return nil, fmt.Errorf("services: %w", err)
		}
		for _, kv := range resp.Kvs {
			all = count(all, kv)
		}
		if !resp.More {
			return all, nil
		}
		start = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

func count(all []Service, kv *mvccpb.KeyValue) []Service {
	service, _, ok := parseKey(string(kv.Key))
	r, err := parse(kv)
	if !ok || err != nil || r.State == left {
		return all
	}
	if len(all) == 0 || all[len(all)-1].Name != service {
		all = append(all, Service{Name: service})
	}
	s := &all[len(all)-1]
	s.Instances++
	if r.effective().Usable() {
		s.Usable++
	}
	return all
}

// A table is what stands in etcd of one service.
type table struct {
	service, prefix string
	ids             []string // sorted
	byID            map[string]Instance
}

func newTable(service, prefix string) *table {
	return &table{service: service, prefix: prefix, byID: make(map[string]Instance)}
}

// id returns the id in a key, if the key is an instance's.
func (t *table) id(key []byte) (string, bool) {
	escaped, ok := strings.CutPrefix(string(key), t.prefix)
	if !ok {
		return "", false
	}
	id, err := keyspace.Unescape(escaped)
	return id, err == nil && id != ""
}

// put takes one key in. It returns the id, and whether the instance stands; a
// farewell is the end of it, and whatever this protocol did not write is nothing.
func (t *table) put(kv *mvccpb.KeyValue) (id string, stands bool) {
	id, ok := t.id(kv.Key)
	if !ok {
		return "", false
	}
	r, err := parse(kv)
	if err != nil || r.State == left {
		t.remove(id)
		return id, false
	}
	t.set(id, r.instance(t.service, id))
	return id, true
}

// snapshot returns what can be sent to, those kept among them, and the others.
func (t *table) snapshot(kept map[string]Instance) *Snapshot {
	s := &Snapshot{Service: t.service, Kept: len(kept), At: time.Now(), Instances: make([]Instance, 0, len(t.ids)+len(kept))}
	for _, id := range t.ids {
		if i := t.byID[id]; i.State.Usable() {
			s.Instances = append(s.Instances, i)
		} else {
			s.Others = append(s.Others, i)
		}
	}
	for _, i := range kept {
		s.Instances = append(s.Instances, i)
	}
	if len(kept) > 0 {
		sortByID(s.Instances)
	}
	return s
}
