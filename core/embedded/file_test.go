package embedded_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core/embedded"
)

// sample has what upstream's own sample has, on addresses and in a directory of the test.
func sample(t *testing.T) (text, client, dir string) {
	t.Helper()
	client, peer := free(t), free(t)
	dir = filepath.Join(t.TempDir(), "etcd")
	return fmt.Sprintf(`name: 'infra1'
data-dir: %s
wal-dir:
snapshot-count: 10000
heartbeat-interval: 10
election-timeout: 100
quota-backend-bytes: 33554432
listen-peer-urls: http://%[2]s
listen-client-urls: http://%[3]s
max-snapshots: 5
max-wals: 5
cors:
initial-advertise-peer-urls: http://%[2]s
advertise-client-urls: http://%[3]s
discovery:
discovery-fallback: 'proxy'
discovery-proxy:
discovery-srv:
initial-cluster:
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-pprof: true
proxy: 'off'
proxy-failure-wait: 5000
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
peer-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
self-signed-cert-validity: 1
log-level: debug
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: "1"
cipher-suites: [
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
]
tls-min-version: 'TLS1.2'
tls-max-version: 'TLS1.3'
`, dir, peer, client), client, dir
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func inFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "etcd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestUpstreamsFileRunsAMember(t *testing.T) {
	text, client, dir := sample(t)
	if !embedded.IsFile([]byte(text)) {
		t.Error("it is not seen to be upstream's")
	}
	f, err := embedded.ReadFile(inFile(t, text))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Open) > 0 {
		t.Errorf("open to others: %v", f.Open)
	}
	for _, name := range []string{"discovery-fallback", "log-level", "log-outputs", "logger", "proxy", "proxy-failure-wait"} {
		if !slices.ContainsFunc(f.Ignored, func(s string) bool { return strings.HasPrefix(s, name+": ") }) {
			t.Errorf("%s is not said to be ignored: %v", name, f.Ignored)
		}
	}
	if len(f.Ignored) != 6 {
		t.Errorf("ignored: %v", f.Ignored)
	}
	m, err := embedded.Start(t.Context(), f.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if m.DataDir() != dir || !slices.Equal(m.Endpoints(), []string{"http://" + client}) {
		t.Errorf("data in %s, clients at %v", m.DataDir(), m.Endpoints())
	}
	members, err := m.Client().MemberList(t.Context())
	if err != nil || members.Members[0].Name != "infra1" {
		t.Errorf("members %v, %v", members, err)
	}
	st, err := m.Client().Status(t.Context(), m.Endpoints()[0])
	if err != nil || st.DbSizeQuota != 32<<20 {
		t.Errorf("status %v, %v: the file says 32 MiB", st, err)
	}
}

func TestSettingsThatCannotWork(t *testing.T) {
	for line, names := range map[string]string{
		"listen-client-urls: nowhere":                  "listen-client-urls",
		"listen-client-urls: http://127.0.0.1:0":       "listen-client-urls",
		"listen-client-urls: unix://localhost:1":       "listen-client-urls",
		"listen-client-urls: http://example.test:2379": "example.test",
		"proxy: 'on'":                                 "proxy",
		"discovery: https://discovery.test/abc":       "discovery",
		"client-transport-security: {auto-tls: true}": "client-transport-security",
		"peer-transport-security: 7":                  "peer-transport-security",
		"max-txn-ops: 100":                            "max-txn-ops",
		"max-request-bytes: 1000":                     "max-request-bytes",
		"grpc-keepalive-min-time: 60000000000":        "grpc-keepalive-min-time",
		"cors: ':::'":                                 ":::",
		"heartbeat-interval: often":                   "heartbeat-interval",
		"election-timeout: 10":                        "election-timeout",
		"auto-compaction-mode: sometimes\nauto-compaction-retention: \"1\"": "compact",
		"{":         "yaml",
		"max-wals:": "",
	} {
		_, err := embedded.ReadFile(inFile(t, line+"\n"))
		switch {
		case names == "" && err != nil:
			t.Errorf("%s: %v", line, err)
		case names != "" && (!errors.Is(err, embedded.ErrConfig) || !strings.Contains(err.Error(), names)):
			t.Errorf("%s: %v, want ErrConfig and %q", line, err, names)
		}
	}
}

func TestOpenAndIgnoredSettings(t *testing.T) {
	f, err := embedded.ReadFile(inFile(t, "listen-client-urls: http://0.0.0.0:2379,http://127.0.0.1:2399\nlisten-peer-urls: http://10.0.0.1:2380\nquota-backend-byte: 5\nexperimental-initial-corrupt-check: true\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"http://0.0.0.0:2379", "http://10.0.0.1:2380"}; !slices.Equal(slices.Sorted(slices.Values(f.Open)), want) {
		t.Errorf("open %v, want %v", f.Open, want)
	}
	if f.Config.ClientAddr != "127.0.0.1:2399" || f.Config.Name != "default" || f.Config.DataDir != "default.etcd" {
		t.Errorf("%+v", f.Config)
	}
	if len(f.Ignored) != 2 || !strings.Contains(f.Ignored[1], `did you mean "quota-backend-bytes"`) {
		t.Errorf("ignored %v", f.Ignored)
	}
}

func TestAHostsOwnFileIsNotUpstreams(t *testing.T) {
	for _, text := range []string{"", "name: x\ndata_dir: y\napi: {listen: 'a:1'}\n", "{", "my-key: 1\n"} {
		if embedded.IsFile([]byte(text)) {
			t.Errorf("taken for upstream's: %q", text)
		}
	}
}
