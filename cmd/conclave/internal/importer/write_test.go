package importer_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/cmd/conclave/internal/importer"
	"github.com/conclavehq/conclave/core/coretest"
)

func items(keys ...string) importer.Found {
	var f importer.Found
	for _, k := range keys {
		f.Items = append(f.Items, importer.Item{From: k, Key: k, Value: []byte("v" + k)})
	}
	return f
}

func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		rules importer.Rules
		want  []string
		note  string
	}{
		"none": {importer.Rules{}, []string{"/app/a", "/app/b", "/apple", "/x"}, ""},
		"only": {importer.Rules{Only: []string{"/app/", "/x"}}, []string{"/app/a", "/app/b", "/x"}, "1 keys are left out"},
		"skip": {importer.Rules{Skip: []string{"/app"}}, []string{"/x"}, "3 keys are left out"},
		"map":  {importer.Rules{Map: []importer.Rule{{From: "/", To: "old/"}, {From: "/app/", To: "new/"}}}, []string{"new/a", "new/b", "old/apple", "old/x"}, ""},
	} {
		got, err := importer.Plan(items("/app/a", "/app/b", "/apple", "/x"), c.rules, time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var keys []string
		for _, i := range got.Items {
			keys = append(keys, i.Key)
		}
		if !slices.Equal(keys, c.want) {
			t.Errorf("%s: %v, want %v", name, keys, c.want)
		}
		if strings.Join(got.Notes, ";") != c.note && !strings.HasPrefix(strings.Join(got.Notes, ";"), c.note+",") && c.note != "" {
			t.Errorf("%s: notes %v", name, got.Notes)
		}
	}
}

func TestPlansThatCannotWork(t *testing.T) {
	big := importer.Found{Items: []importer.Item{{From: "big", Value: make([]byte, importer.MaxValue+1)}}}
	for says, c := range map[string]struct {
		f importer.Found
		r importer.Rules
	}{
		`would both become "a"`:                       {items("a", "/a"), importer.Rules{Map: []importer.Rule{{From: "/"}}}},
		`"x" would have no name`:                      {items("x"), importer.Rules{Map: []importer.Rule{{From: "x"}}}},
		`"/conclave/default/lock/x" would be written`: {items("/conclave/default/lock/x"), importer.Rules{}},
		`"big" has`: {big, importer.Rules{}},
	} {
		if _, err := importer.Plan(c.f, c.r, time.Now()); !errors.Is(err, importer.ErrPlan) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestWhatHasExpiredIsLeftOut(t *testing.T) {
	now := time.Now()
	f := items("young", "old", "ageless")
	f.Items[0].Expires, f.Items[1].Expires = now.Add(time.Hour), now.Add(-time.Second)
	got, err := importer.Plan(f, importer.Rules{}, now)
	if err != nil || len(got.Items) != 2 || len(got.Notes) != 1 || got.Notes[0] != "1 keys have expired" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Writing is done once, can be done again, and touches nothing that others wrote.
func TestWrite(t *testing.T) {
	e := coretest.StartEtcd(t)
	c := e.Client(t)
	var all []importer.Item
	end := time.Now().Add(time.Hour)
	for n := range 250 {
		i := importer.Item{Key: fmt.Sprintf("k%03d", n), Value: bytes.Repeat([]byte{byte(n)}, n)}
		if n%50 == 0 {
			i.Expires = end
		}
		all = append(all, i)
	}
	for key, value := range map[string]string{"k007": "another", "k009": string(all[9].Value)} {
		if _, err := c.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	for round, want := range []importer.Report{
		{Written: 248, Same: 1, Leased: 5, Conflicts: []string{"k007"}},
		{Written: 0, Same: 249, Conflicts: []string{"k007"}},
		{Written: 1, Same: 249, Conflicts: []string{}},
	} {
		got, err := importer.Write(t.Context(), c, all, round == 2)
		got.Bytes = 0
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("round %d: %+v, %v, want %+v", round, got, err, want)
		}
	}
	resp, err := c.Get(t.Context(), "k", clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != len(all) {
		t.Fatal(len(resp.Kvs), err)
	}
	var lease int64
	for n, kv := range resp.Kvs {
		if !bytes.Equal(kv.Value, all[n].Value) || (kv.Lease != 0) != !all[n].Expires.IsZero() {
			t.Errorf("%s: %q on lease %x", kv.Key, kv.Value, kv.Lease)
		}
		if kv.Lease != 0 {
			lease = kv.Lease
		}
	}
	if ttl, err := c.TimeToLive(t.Context(), clientv3.LeaseID(lease)); err != nil || ttl.GrantedTTL > 3600 || ttl.GrantedTTL < 3000 {
		t.Errorf("ttl %+v, %v", ttl, err)
	}
}

// Large values travel in transactions that etcd takes.
func TestWriteLargeValues(t *testing.T) {
	e := coretest.StartEtcd(t)
	var all []importer.Item
	for n := range 6 {
		all = append(all, importer.Item{Key: fmt.Sprint(n), Value: make([]byte, importer.MaxValue-n*300<<10)})
	}
	if got, err := importer.Write(t.Context(), e.Client(t), all, false); err != nil || got.Written != 6 {
		t.Errorf("%+v, %v", got, err)
	}
}
