package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
	"github.com/conclavehq/conclave/recipes/recipetest/conformance"
)

// pythonProgram makes the program of python/, or skips the test.
func pythonProgram(t *testing.T) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin") {
		python := filepath.Join(dir, "python3")
		if exec.CommandContext(t.Context(), python, "-c", "import grpc, google.protobuf").Run() != nil {
			continue
		}
		t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
		program := filepath.Join(t.TempDir(), "ratelimit")
		build := exec.CommandContext(t.Context(), python, "build.py", program)
		build.Dir = "python"
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return program
	}
	t.Skip("python3 with grpcio and protobuf is not installed (Debian: python3-grpcio)")
	return ""
}

// The recipe in Python behaves as a recipe must.
func TestPythonConformance(t *testing.T) {
	subject, err := conformance.ProgramSubject(t.Context(), conformance.Program{Path: pythonProgram(t)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const service = "example.ratelimit.v1.RateLimitService/"
	suite, err := conformance.New(t.Context(), subject, conformance.Config{Scenarios: []conformance.Scenario{{
		Name:  "quota",
		Setup: []conformance.Call{*conformance.NewCall(service+"SetQuota", `{"name":"$name","tokens":"1000","window":"86400s"}`)},
		Take:  conformance.NewCall(service+"Take", `{"name":"$name","tokens":"1"}`),
		Show:  conformance.NewCall(service+"Status", `{"name":"$name"}`, "quota", "window", "ends"),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := suite.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, check := range suite.Checks() {
		if r := suite.Run(context.WithoutCancel(t.Context()), check); r.Outcome == conformance.Failed {
			t.Errorf("%s: %s, but: %s", check.Name, check.Promise, r.Detail)
		}
	}
}

// A host that runs the recipe in Python and one that runs it in Go share a quota:
// not one token more is handed out.
func TestGoAndPythonShareAQuota(t *testing.T) {
	program := pythonProgram(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	spec, err := launcher.Describe(ctx, program)
	if err != nil {
		t.Fatal(err)
	}
	starter := launcher.New(launcher.Config{})
	plugin, err := starter.Plugin(spec)
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(host.Config{
		DataDir: t.TempDir(), API: host.API{Listen: "127.0.0.1:0"},
		Etcd: host.Etcd{ListenClient: "127.0.0.1:0", ListenPeer: "127.0.0.1:0", Fast: true, NoFsync: true},
	}, host.WithRecipe(plugin))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := starter.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	awaitReady(ctx, t, plugin)
	env := recipe.NewEnv("ratelimit", coretest.Dial(t, h.Etcd()[0]), nil, nil)
	defer env.Close()
	here := &limiter{env: env, share: 5, now: time.Now, stocks: make(map[quotaID]*stock)}
	id := quotaID{namespace: "default", name: "shared"}
	if err := here.set(ctx, id, 500, 24*time.Hour, false); err != nil {
		t.Fatal(err)
	}
	var goTook, pythonTook atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for takeOverHTTP(ctx, t, h.API()) {
				pythonTook.Add(1)
			}
		})
		all.Go(func() {
			for range 60 {
				if o, err := here.take(ctx, id, 1); err != nil || !o.allowed {
					t.Error(o, err)
				}
				goTook.Add(1)
			}
		})
	}
	all.Wait()
	rest := drain(t, here, id)
	if sum := goTook.Load() + pythonTook.Load() + rest; sum != 500 {
		t.Errorf("%d tokens in Go, %d in Python, %d at the end: %d of 500", goTook.Load(), pythonTook.Load(), rest, sum)
	}
	t.Logf("%d tokens in Go, %d in Python, %d at the end", goTook.Load(), pythonTook.Load(), rest)
}

// awaitReady waits until a plugin's process serves: a host is ready before.
func awaitReady(ctx context.Context, t *testing.T, p *launcher.Plugin) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for p.Status().State != recipe.StateReady {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%+v", p.Status())
		}
	}
}

// takeOverHTTP takes a token at a host.
func takeOverHTTP(ctx context.Context, t *testing.T, api string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/example.ratelimit.v1.RateLimitService/Take", bytes.NewReader([]byte(`{"name":"shared"}`)))
	if err != nil {
		t.Error(err)
		return false
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct{ Allowed bool }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Error(resp.Status, err)
		return false
	}
	return answer.Allowed
}
