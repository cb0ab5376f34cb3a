package cli

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testApp(t *testing.T, env map[string]string) (a *app, stdout, stderr *bytes.Buffer) {
	t.Helper()
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	home := t.TempDir()
	all := map[string]string{"HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, "config"), "XDG_CACHE_HOME": filepath.Join(home, "cache")}
	maps.Copy(all, env)
	return &app{stdout: stdout, stderr: stderr, env: all}, stdout, stderr
}

func writeTestContext(t *testing.T, a *app, name, text string) {
	t.Helper()
	path, err := a.contextPath(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := writePrivate(path, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestTargetOrder(t *testing.T) {
	t.Parallel()
	const named = "api: [http://context:2378]\nnamespace: billing\n"
	for _, c := range []struct {
		name  string
		env   map[string]string
		flags globals
		use   bool // the context
		want  string
		from  string
		space string
	}{
		{"nothing", nil, globals{}, false, defaultAPI, "the default", "default"},
		{"a context", nil, globals{}, true, "http://context:2378", "context prod", "billing"},
		{"environment before context", map[string]string{"CONCLAVE_API": "http://env:2378"}, globals{}, true, "http://env:2378", "CONCLAVE_API", "default"},
		{"the other kind counts too", map[string]string{"CONCLAVE_ENDPOINTS": "env:2379"}, globals{}, true, "env:2379", "CONCLAVE_ENDPOINTS", "default"},
		{"flag before environment", map[string]string{"CONCLAVE_ENDPOINTS": "env:2379"}, globals{api: []string{"http://flag:2378"}}, true, "http://flag:2378", "--api", "default"},
		{"several", nil, globals{api: []string{"http://a:1", "unix:///b"}}, false, "http://a:1, unix:///b", "--api", "default"},
		{"a namespace beside a context", map[string]string{"CONCLAVE_NAMESPACE": "own"}, globals{}, true, "http://context:2378", "context prod", "own"},
		{"chosen by the shell", map[string]string{"CONCLAVE_CONTEXT": "prod"}, globals{}, false, "http://context:2378", "context prod", "billing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _, _ := testApp(t, c.env)
			a.flags = c.flags
			writeTestContext(t, a, "prod", named)
			if c.use {
				if err := a.setCurrent("prod"); err != nil {
					t.Fatal(err)
				}
			}
			got, err := a.target()
			if err != nil {
				t.Fatal(err)
			}
			if got.addresses() != c.want || got.from != c.from || a.namespace(got) != c.space {
				t.Errorf("%s from %s in %s; want %s from %s in %s", got.addresses(), got.from, a.namespace(got), c.want, c.from, c.space)
			}
		})
	}
}

func TestTargetRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		env     map[string]string
		flags   globals
		context string
		reason  string
		says    string
	}{
		{"both flags", nil, globals{api: []string{"http://a:1"}, endpoints: []string{"b:1"}}, "", "invalid_target", "--api and --endpoints"},
		{"both variables", map[string]string{"CONCLAVE_API": "http://a:1", "CONCLAVE_ENDPOINTS": "b:1"}, globals{}, "", "invalid_target", "CONCLAVE_API and"},
		{"both in a context", nil, globals{}, "api: [http://a:1]\nendpoints: [b:1]\n", "invalid_context", "both given"},
		{"neither in a context", nil, globals{}, "namespace: a\n", "invalid_context", "neither"},
		{"an unknown key", nil, globals{}, "apii: [http://a:1]\n", "invalid_context", "apii"},
		{"no URL", nil, globals{api: []string{"a"}}, "", "invalid_api", "--api"},
		{"a path", nil, globals{api: []string{"http://a:1/x"}}, "", "invalid_api", "--api"},
		{"another scheme", nil, globals{api: []string{"ftp://a:1"}}, "", "invalid_api", "--api"},
		{"a relative socket", nil, globals{api: []string{"unix://a"}}, "", "invalid_api", "--api"},
		{"a token for etcd", nil, globals{endpoints: []string{"a:1"}, authToken: "t"}, "", "invalid_auth-token", "--auth-token"},
		{"an unknown context", map[string]string{"CONCLAVE_CONTEXT": "prodd"}, globals{}, "api: [http://a:1]\n", "invalid_context", "CONCLAVE_CONTEXT: there is no context"},
		{"a context outside", map[string]string{"CONCLAVE_CONTEXT": "../prod"}, globals{}, "", "invalid_name", "../prod"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _, _ := testApp(t, c.env)
			a.flags = c.flags
			if c.context != "" {
				writeTestContext(t, a, "prod", c.context)
				if err := a.setCurrent("prod"); err != nil {
					t.Fatal(err)
				}
			}
			_, err := a.target()
			e := describe(err)
			if err == nil || e.Exit != ExitUsage || e.Reason != c.reason || !strings.Contains(e.Message, c.says) {
				t.Errorf("%+v; want exit 2, %s, %q", e, c.reason, c.says)
			}
		})
	}
}

// What a context holds goes to the target that it names, and to no other.
func TestAccessStaysWithItsContext(t *testing.T) {
	t.Parallel()
	a, _, _ := testApp(t, nil)
	tokens := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokens, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	writeTestContext(t, a, "prod", "api: [https://prod:2378]\ncacert: /ca\ntoken_file: "+tokens+"\n")
	if err := a.setCurrent("prod"); err != nil {
		t.Fatal(err)
	}
	in, err := a.target()
	if err != nil {
		t.Fatal(err)
	}
	with, err := a.access(in)
	if err != nil || with.token != "secret" || with.cacert != "/ca" {
		t.Errorf("%+v, %v", with, err)
	}
	a.flags.api = []string{"http://other:2378"}
	out, err := a.target()
	if err != nil {
		t.Fatal(err)
	}
	if with, err = a.access(out); err != nil || with != (access{}) {
		t.Errorf("sent to another target: %+v, %v", with, err)
	}
}

func TestDevWithAnAPI(t *testing.T) {
	t.Parallel()
	a, _, _ := testApp(t, nil)
	remove, err := a.announce(devState{PID: os.Getpid(), API: []string{"http://127.0.0.1:1"}, Endpoints: []string{"http://127.0.0.1:2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	got, err := a.target()
	if err != nil || got.addresses() != "http://127.0.0.1:1" || got.from != "conclave dev" {
		t.Errorf("%+v, %v", got, err)
	}
	etcd, err := a.etcdTarget()
	if err != nil || etcd.addresses() != "http://127.0.0.1:2" {
		t.Errorf("for etcd's tools: %+v, %v", etcd, err)
	}
	a.env["CONCLAVE_API"] = "http://127.0.0.1:1/"
	if etcd, err = a.etcdTarget(); err != nil || etcd.addresses() != "http://127.0.0.1:2" {
		t.Errorf("for etcd's tools, with the dev's API in the environment: %+v, %v", etcd, err)
	}
	a.env["CONCLAVE_API"] = "https://other:2378"
	if etcd, err = a.etcdTarget(); err == nil {
		t.Errorf("for etcd's tools, with another host's API in the environment: %+v", etcd)
	}
}
