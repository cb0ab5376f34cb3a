package discovery_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/discovery"
)

// FuzzRegister tries everything that an instance has: what is registered is read
// as it was said, and goes again; or it is core.ErrInvalid, and nothing stands.
func FuzzRegister(f *testing.F) {
	f.Add("web", "1", "10.0.0.1:80", "zone", "1.2", "tag", "key", "value", 1)
	f.Add("a/b/c/d/e/f/g/h/i", "%2F", "h", "", "", "", "", "", 0)
	f.Add("größe", "_host", "[::1]:65535", "\x00", "\xff", "\u2028", "k", strings.Repeat("<", 4096), 65535)
	f.Add("..", "a/b", "h:99999", "z", `","state":"left`, `"`, `}`, `{`, -1)
	f.Fuzz(func(t *testing.T, service, id, addr, zone, version, tag, key, value string, weight int) {
		s := session(t, core.WithNamespace("fuzz"))
		r := registrarOn(t, s)
		i := discovery.Instance{Service: service, ID: id, Addr: addr, Zone: zone, Version: version, Weight: weight,
			Tags: []string{tag}, Metadata: map[string]string{key: value}}
		g, err := r.Register(within(t), i)
		if err != nil {
			isAll(t, err, core.ErrInvalid)
			return
		}
		got := must[*discovery.Snapshot](t)(discovery.Lookup(within(t), s.Client(), "fuzz", service))
		if len(got.Instances) != 1 {
			t.Fatalf("%d instances", len(got.Instances))
		}
		j := got.Instances[0]
		if id == "" {
			i.ID = addr
		}
		i.Weight = max(weight, 1)
		if j.Service != i.Service || j.ID != i.ID || j.Addr != i.Addr || j.Zone != i.Zone || j.Version != i.Version || j.Weight != i.Weight ||
			!slices.Equal(j.Tags, i.Tags) || !maps.Equal(j.Metadata, i.Metadata) {
			t.Errorf("read %+v, registered %+v", j, i)
		}
		if err := g.Deregister(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzRecord puts any bytes where an instance stands: readers read on, an operator's
// mark says that there is no instance or keeps what it does not know, and the
// program whose key it is puts it right.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"reg":"x","inc":1,"addr":"h:1","later":{"a":[1]}}`))
	f.Add([]byte(`{"v":1,"reg":"x","inc":1,"state":"left"}`))
	f.Add([]byte(`{"v":1,"reg":"x","inc":1,"weight":-5,"since":"yesterday"}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, value []byte) {
		c, service := etcd.Client(t), "fuzzed"
		key := keyOf(service, "i-0001")
		must[*clientv3.PutResponse](t)(c.Put(within(t), key, string(value)))
		got := must[*discovery.Snapshot](t)(discovery.Lookup(within(t), c, "default", service))
		if len(got.Instances)+len(got.Others) > 1 {
			t.Errorf("%+v", got)
		}
		if err := discovery.Mark(within(t), c, "default", service, "i-0001", discovery.Draining, "ada"); err == nil {
			if after := string(stands(t, service, "i-0001").Value); strings.Contains(string(value), `"later"`) && !strings.Contains(after, `"later"`) {
				t.Errorf("%s became %s", value, after)
			}
		} else {
			isAll(t, err, discovery.ErrNoInstance)
		}
		g := registered(t, registrar(t), instance(service, 1))
		got = must[*discovery.Snapshot](t)(discovery.Lookup(within(t), c, "default", service))
		if ids(got) != "i-0001" || got.Instances[0].Token != g.Token() {
			t.Errorf("over %q: %+v", value, got)
		}
	})
}
