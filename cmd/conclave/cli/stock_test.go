//go:build linux

package cli_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestStockEtcd runs every recipe on servers of upstream's own, straight and
// through a host, and as a user with the least role. The servers are built here,
// from modules of their own.
func TestStockEtcd(t *testing.T) {
	if os.Getenv("CONCLAVE_STOCK") == "" {
		t.Skip("it builds three etcd servers, which takes a minute or two: set CONCLAVE_STOCK=1")
	}
	for _, version := range []string{"v3.5.24", "v3.6.16", "v3.7.3"} {
		t.Run(version, func(t *testing.T) {
			server := buildEtcd(t, version)
			for _, way := range []string{"etcd", "host", "role"} {
				t.Run(way, func(t *testing.T) { stockScripts(t, server, way) })
			}
		})
	}
}

// buildEtcd builds upstream's server.
func buildEtcd(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	const server = "go.etcd.io/etcd/server/v3"
	run := func(args ...string) error {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	if err := run("mod", "init", "example.com/stock"); err != nil {
		t.Fatal(err)
	}
	if err := run("get", server+"@"+version); err != nil {
		t.Skipf("etcd %s cannot be fetched here: %v", version, err)
	}
	if err := run("build", "-o", "etcd", server); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "etcd")
}

// stockScripts runs the scripts on a server of their own.
func stockScripts(t *testing.T, server, way string) {
	t.Helper()
	// A busy machine may take long to check a password.
	t.Setenv("ETCDCTL_COMMAND_TIMEOUT", "60s")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/stock", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, ".config"))
			env.Setenv("GORACE", os.Getenv("GORACE"))
			url, err := startStock(env, server)
			if err != nil {
				return err
			}
			env.Setenv("ETCD", url)
			return stockWay(env, url, way)
		},
		Condition: func(cond string) (bool, error) {
			if cond == "login" {
				return way == "role", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"capture": scriptCapture, "fails": scriptFails},
	})
}

// startStock starts the server on free ports and waits until it serves.
func startStock(env *testscript.Env, server string) (string, error) {
	client, peer, err := twoAddrs()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(server, "--data-dir", filepath.Join(env.WorkDir, ".etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", err
	}
	env.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return client, serves(client)
}

// stockWay prepares the environment: straight on etcd, through a host, or through a
// host that has only the role.
func stockWay(env *testscript.Env, url, way string) error {
	if way == "etcd" {
		env.Setenv("CONCLAVE_ENDPOINTS", url)
		return nil
	}
	config := "etcd: {endpoints: ['" + url + "']}\n"
	if way == "role" {
		if err := limitTo(env, url); err != nil {
			return err
		}
		config = "etcd: {endpoints: ['" + url + "'], user: host, password: pass}\n"
	}
	file := filepath.Join(env.WorkDir, ".conclave.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	api, err := serveStock(env, file)
	env.Setenv("CONCLAVE_API", api)
	return err
}

// limitTo turns authentication on, and makes a user with the least role.
func limitTo(env *testscript.Env, url string) error {
	script := `set -e
conclave etcdctl user add root:secret
conclave etcdctl user grant-role root root
conclave auth role | sh -e
conclave etcdctl user add host:pass
conclave etcdctl user grant-role host conclave
conclave etcdctl auth enable
`
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(slices.Clone(env.Vars), "ETCDCTL_ENDPOINTS="+url, "ETCDCTL_DIAL_TIMEOUT=60s", "ETCDCTL_COMMAND_TIMEOUT=60s")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the role: %w: %s", err, out)
	}
	return nil
}

// serveStock starts a host with a configuration file and returns its API.
func serveStock(env *testscript.Env, file string) (string, error) {
	cmd := exec.Command("conclave", "serve", "--config", file, "--api-addr", "127.0.0.1:0")
	cmd.Env, cmd.Stderr = env.Vars, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	env.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", err
	}
	m := readyLine.FindStringSubmatch(line)
	if m == nil {
		return "", fmt.Errorf("serve printed %q", line)
	}
	return m[1], nil
}

// serves waits until a server says that it is well.
func serves(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
		if err != nil {
			return err
		}
		if resp, err := (&http.Client{Timeout: time.Second}).Do(req); err == nil {
			if err := resp.Body.Close(); err != nil {
				return err
			}
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("etcd at %s does not serve", url)
		}
	}
}

// twoAddrs returns the URLs of two addresses on which nobody listens.
func twoAddrs() (client, peer string, err error) {
	var urls [2]string
	for i := range urls {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer func() { _ = l.Close() }() //nolint:gocritic // both are chosen before the first is given back
		urls[i] = "http://" + l.Addr().String()
	}
	return urls[0], urls[1], nil
}
