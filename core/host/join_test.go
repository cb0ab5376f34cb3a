package host_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/host"
)

// joining is the configuration of a host that joins the cluster at an address; ""
// is for the first one.
func joining(t *testing.T, name, address string) host.Config {
	t.Helper()
	cfg := config(t)
	cfg.Name, cfg.Etcd.ListenPeer = name, freeAddr(t)
	if address != "" {
		cfg.Etcd.Join = host.Addresses{address}
	}
	return cfg
}

// A cluster of one grows to three, asked for by a host's API and by etcd's own, and
// a host that has joined starts again with the same configuration.
func TestHostsJoin(t *testing.T) {
	t.Parallel()
	one := start(t, joining(t, "one", ""))
	secondly := joining(t, "two", one.API())
	two := start(t, secondly)
	three := start(t, joining(t, "three", two.Etcd()[0]))
	list := post(t, web(t), three.API(), "host.v1.HostService/ListMembers", "{}")
	if list.status != http.StatusOK || strings.Count(list.body, `"healthy":true`) != 3 || strings.Contains(list.body, `"learner":true`) {
		t.Fatalf("members: %+v", list)
	}
	stop(t, two)
	start(t, secondly)
	lost := secondly
	lost.DataDir, lost.API.Listen = t.TempDir(), "127.0.0.1:0"
	lost.Etcd.ListenClient = "127.0.0.1:0"
	refused(t, lost, embedded.ErrMemberExists, "two at http://"+lost.Etcd.ListenPeer+" has run before")
	twice := joining(t, "one", one.API())
	refused(t, twice, embedded.ErrMemberExists, "the name one is that of the member at")
}

// refused starts a host that must not start.
func refused(t *testing.T, cfg host.Config, want error, text string) {
	t.Helper()
	h, err := host.New(cfg, host.WithRecipe(keeper{}))
	if err != nil {
		t.Fatal(err)
	}
	err = h.Start(within(t))
	if err == nil {
		stop(t, h)
		t.Fatal("it started")
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want %s", err, text)
	}
}

// Where etcd wants a login, a host joins with that of its user, who may change members.
func TestHostsJoinWithALogin(t *testing.T) {
	t.Parallel()
	withLogin := func(cfg host.Config) host.Config {
		cfg.Etcd.User, cfg.Etcd.Password = "root", "secret"
		return cfg
	}
	one := start(t, withLogin(joining(t, "one", "")))
	c := dial(t, one)
	if _, err := c.UserAdd(within(t), "root", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UserGrantRole(within(t), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AuthEnable(within(t)); err != nil {
		t.Fatal(err)
	}
	secondly := withLogin(joining(t, "two", one.API()))
	two := start(t, secondly)
	stop(t, two)
	start(t, secondly)
	list, err := login(t, one).MemberList(within(t))
	if err != nil || len(list.Members) != 2 || list.Members[0].IsLearner || list.Members[1].IsLearner {
		t.Errorf("members %v, %v", list, err)
	}
}

// A join that cannot go on leaves no learner behind.
func TestFailedJoinGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	one := start(t, joining(t, "one", ""))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	cfg := joining(t, "two", one.API())
	cfg.Etcd.ListenClient = taken.Addr().String()
	refused(t, cfg, embedded.ErrPortInUse, taken.Addr().String())
	list, err := dial(t, one).MemberList(within(t))
	if err != nil || len(list.Members) != 1 {
		t.Errorf("members %v, %v", list, err)
	}
}

// Nobody at the address is waited for, until the start's time is over.
func TestJoinWaitsForTheCluster(t *testing.T) {
	t.Parallel()
	address := freeAddr(t)
	h, err := host.New(joining(t, "two", "http://"+address))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = h.Start(ctx)
	if !errors.Is(err, embedded.ErrNoQuorum) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestCheckOfClusters(t *testing.T) {
	t.Parallel()
	peers := map[string]string{"a": "http://127.0.0.1:1", "b": "http://127.0.0.1:2"}
	join := host.Addresses{"http://127.0.0.1:9"}
	for name, tt := range map[string]struct {
		name string
		etcd host.Etcd
		want string
	}{
		"another name":    {"c", host.Etcd{InitialCluster: peers}, `etcd.initial_cluster: has no member "c", which is this host's name`},
		"no URL":          {"a", host.Etcd{InitialCluster: map[string]string{"a": "127.0.0.1:1"}}, `etcd.initial_cluster: a: "127.0.0.1:1" is not http://host:port`},
		"one URL twice":   {"a", host.Etcd{InitialCluster: map[string]string{"a": "http://127.0.0.1:1", "b": "http://127.0.0.1:1"}}, "etcd.initial_cluster: a and b are both at http://127.0.0.1:1"},
		"two addresses":   {"a", host.Etcd{InitialCluster: peers, AdvertisePeer: "127.0.0.1:3"}, "etcd.initial_cluster: says that a is at http://127.0.0.1:1"},
		"any port":        {"a", host.Etcd{Join: join, ListenPeer: "127.0.0.1:0"}, "etcd.listen_peer: the other members cannot know a port"},
		"any address":     {"a", host.Etcd{Join: join, ListenPeer: "0.0.0.0:2380"}, "etcd.advertise_peer: is empty, and the other members cannot reach 0.0.0.0:2380"},
		"found and join":  {"a", host.Etcd{Join: join, InitialCluster: peers}, "etcd.join: is for a cluster that runs"},
		"join nowhere":    {"a", host.Etcd{Join: host.Addresses{"localhost"}}, `etcd.join: "localhost" is not http://host:port`},
		"join externally": {"a", host.Etcd{Join: join, Endpoints: []string{"http://127.0.0.1:9"}}, "etcd: join, advertise_client, advertise_peer and initial_cluster_token are for mode embedded"},
		"advertised":      {"a", host.Etcd{AdvertiseClient: "here"}, `etcd.advertise_client: "here" is not host:port`},
		"listen by name":  {"a", host.Etcd{ListenClient: "here:1"}, "etcd.listen_client: etcd listens on IP addresses, and here is a name"},
		"found by name":   {"a", host.Etcd{InitialCluster: map[string]string{"a": "http://here:1"}}, "etcd.listen_peer: etcd listens on IP addresses, and here is a name"},
		"open to others":  {"a", host.Etcd{InitialCluster: map[string]string{"a": "http://192.0.2.1:1"}}, "etcd.listen_peer: 192.0.2.1:1 is reachable from other machines"},
	} {
		cfg := host.Config{Name: tt.name, DataDir: "d", Etcd: tt.etcd}
		if err := cfg.Check(); !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	for text, want := range map[string]int{
		"etcd: {join: 'http://a:1, http://b:2'}":   2,
		"etcd: {join: ['http://a:1', http://b:2]}": 2,
		"etcd: {join: ''}":                         0,
	} {
		cfg, err := host.Parse([]byte(text))
		if err != nil || len(cfg.Etcd.Join) != want {
			t.Errorf("%s: %v, %v", text, cfg.Etcd.Join, err)
		}
	}
	if _, err := host.Parse([]byte("etcd: {join: 3}")); !errors.Is(err, host.ErrConfig) {
		t.Errorf("join: 3: %v", err)
	}
}

// A host that asks who calls tells its members to nobody else: who joins is told
// which address to name instead, and does not wait for ever.
func TestJoinIsRefusedWhereCallersAreAsked(t *testing.T) {
	t.Parallel()
	cfg := joining(t, "one", "")
	cfg.Auth.Callers = filepath.Join(t.TempDir(), "callers.yaml")
	if err := os.WriteFile(cfg.Auth.Callers, []byte("callers: [{name: a, certificate: a, may: admin}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	one := start(t, cfg)
	refused(t, joining(t, "two", one.API()), host.ErrConfig, "name the client URL of an etcd member instead")
}
