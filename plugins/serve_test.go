package plugins_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins"
	"github.com/conclavehq/conclave/plugins/internal/wire"
)

// TestMain is also the main of a plugin.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "plugin" {
		plugins.Serve(sample{})
	}
	goleak.VerifyTestMain(m)
}

const patience = 60 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// sample is a recipe with a configuration.
type sample struct{}

func (sample) Info() recipe.Info {
	return recipe.Info{Name: "sample", Version: "1.2.3", Summary: "An example", Config: new(durationpb.Duration)}
}

func (sample) Validate(m proto.Message) error {
	if d, ok := m.(*durationpb.Duration); !ok || d.GetSeconds() < 0 {
		return errors.New("seconds: is negative")
	}
	return nil
}

func (sample) Open(_ context.Context, _ recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	lockv1.RegisterLockServiceServer(reg, lockv1.UnimplementedLockServiceServer{})
	return sample{}, nil
}

func (sample) Close(context.Context) error { return nil }

// program returns this program as a plugin.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), self, append([]string{"plugin"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	return cmd
}

// Whoever runs the program by hand is told what it is.
func TestByHand(t *testing.T) {
	cmd := program(t)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("%v", err)
	}
	if out.Len() != 0 || !strings.Contains(said.String(), "sample 1.2.3: An example") || !strings.Contains(said.String(), "conclave plugin add") {
		t.Errorf("%q and %q", out.String(), said.String())
	}
}

// A program says what it is, for people and for programs.
func TestDescribesItself(t *testing.T) {
	cmd := program(t, "--describe")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var told struct {
		Name, Version, Config string
		Services              []string
		Protocol              int
	}
	if err := json.Unmarshal(out, &told); err != nil {
		t.Fatal(err)
	}
	const service = "conclave.lock.v1.LockService"
	if told.Name != "sample" || told.Version != "1.2.3" || told.Protocol != 1 || told.Config != "google.protobuf.Duration" || len(told.Services) != 1 || told.Services[0] != service {
		t.Errorf("%+v", told)
	}
	if out, err = program(t, "--describe=binary").Output(); err != nil {
		t.Fatal(err)
	}
	d := new(pluginv1.Description)
	if err := proto.Unmarshal(out, d); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(d.GetDescriptors())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{service, d.GetConfig()} {
		if _, err := files.FindDescriptorByName("conclave.lock.v1.LockService"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// needy cannot be opened without etcd.
type needy struct {
	sample
	register bool
}

func (n needy) Open(ctx context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if n.register {
		lockv1.RegisterLockServiceServer(reg, lockv1.UnimplementedLockServiceServer{})
	}
	if _, err := env.Client.Get(ctx, "/conclave/default/sample/a"); err != nil {
		return nil, err
	}
	return n, nil
}

// A description needs no etcd, as long as it is known what to describe.
func TestDescribeWithoutEtcd(t *testing.T) {
	if d, err := plugins.Describe(needy{register: true}); err != nil || len(d.GetServices()) != 1 {
		t.Errorf("%v, %v", d, err)
	}
	if d, err := plugins.Describe(needy{}); err == nil {
		t.Errorf("described %v", d)
	}
	if d, err := plugins.Describe(needy{}, plugins.WithServices("conclave.lock.v1.LockService")); err != nil || len(d.GetServices()) != 1 {
		t.Errorf("%v, %v", d, err)
	}
	if d, err := plugins.Describe(needy{}, plugins.WithServices("nobody.v1.Knows")); err == nil {
		t.Errorf("described %v", d)
	}
}

// A started is a process that waits for its host, which the test is.
type started struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	line  string // the handshake
	conn  *grpc.ClientConn
}

func start(t *testing.T) *started {
	t.Helper()
	host, theirs := pair(t), pair(t)
	cmd := program(t)
	cmd.Env = append(cmd.Env, wire.EnvCookie+"="+wire.Cookie, "PLUGIN_PROTOCOL_VERSIONS=99", "PLUGIN_UNIX_SOCKET_DIR="+t.TempDir(),
		wire.EnvCert+"="+string(theirs.Cert), wire.EnvKey+"="+string(theirs.Key), wire.EnvClientCert+"="+string(host.Cert))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s := &started{cmd: cmd, stdin: stdin, line: strings.TrimSpace(line)}
	secret, err := host.TLS(theirs.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if s.conn, err = grpc.NewClient("unix:"+strings.Split(s.line, "|")[3], grpc.WithTransportCredentials(credentials.NewTLS(secret))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

func pair(t *testing.T) *wire.Pair {
	t.Helper()
	p, err := wire.NewPair()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// exits waits for the end of the process.
func (s *started) exits(t *testing.T, code int) {
	t.Helper()
	_ = s.cmd.Wait() // the state says it
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("it ended with %d, want %d", got, code)
	}
}

// A host that is gone is noticed by the end of standard input, before it ever
// called, and by the end of its connection.
func TestHostIsGone(t *testing.T) {
	s := start(t)
	if !strings.HasPrefix(s.line, "1|1|unix|/") || !strings.HasSuffix(s.line, "|grpc|") {
		t.Errorf("the handshake is %q", s.line)
	}
	if err := s.stdin.Close(); err != nil {
		t.Error(err)
	}
	s.exits(t, 3)

	s = start(t)
	if _, err := pluginv1.NewControlServiceClient(s.conn).Check(within(t), &pluginv1.CheckRequest{}); err != nil {
		t.Error(err)
	}
	if err := s.conn.Close(); err != nil {
		t.Error(err)
	}
	s.exits(t, 3)
}

// What the host asks for before and after the recipe is open is answered.
func TestControl(t *testing.T) {
	s := start(t)
	c := pluginv1.NewControlServiceClient(s.conn)
	d, err := c.Describe(within(t), &pluginv1.DescribeRequest{})
	if err != nil || d.GetDescription().GetName() != "sample" {
		t.Errorf("%v, %v", d, err)
	}
	negative, err := proto.Marshal(&durationpb.Duration{Seconds: -1})
	if err != nil {
		t.Fatal(err)
	}
	for what, config := range map[string][]byte{"a value outside its limits": negative, "no message at all": []byte("\xff\xff")} {
		_, err := c.Validate(within(t), &pluginv1.ValidateRequest{Config: config})
		if status.Code(err) != codes.InvalidArgument || recipe.Reason(err) != "invalid_config" {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := c.Open(within(t), &pluginv1.OpenRequest{Instance: "sample", Config: config}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("open with %s: %v", what, err)
		}
	}
	if _, err := c.Validate(within(t), &pluginv1.ValidateRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := c.SetLogLevel(within(t), &pluginv1.SetLogLevelRequest{Level: "loud"}); recipe.Reason(err) != "invalid_level" {
		t.Errorf("%v", err)
	}
	opened, err := c.Open(within(t), &pluginv1.OpenRequest{Instance: "sample", EtcdAddress: "/nowhere/etcd"})
	if err != nil || len(opened.GetServices()) != 1 {
		t.Fatalf("%v, %v", opened, err)
	}
	if _, err := c.Open(within(t), &pluginv1.OpenRequest{Instance: "sample", EtcdAddress: "/nowhere/etcd"}); recipe.Reason(err) != "invalid_request" {
		t.Errorf("a second time: %v", err)
	}
	if _, err := lockv1.NewLockServiceClient(s.conn).List(within(t), &lockv1.ListRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("its service: %v", err)
	}
	if got, err := c.Collect(within(t), &pluginv1.CollectRequest{}); err != nil || len(got.GetFamilies()) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	for range 2 {
		if _, err := c.Drain(within(t), &pluginv1.DrainRequest{}); err != nil {
			t.Error(err)
		}
	}
	if _, err := lockv1.NewLockServiceClient(s.conn).List(within(t), &lockv1.ListRequest{}); status.Code(err) == codes.OK {
		t.Error("it serves on")
	}
	if err := s.conn.Close(); err != nil {
		t.Error(err)
	}
	s.exits(t, 0) // it was asked to end
}

// Without the host's keys nobody is served.
func TestNoKeys(t *testing.T) {
	cmd := program(t)
	cmd.Env = append(cmd.Env, wire.EnvCookie+"="+wire.Cookie)
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("%v", err)
	}
	s := start(t)
	other, err := pair(t).TLS(pair(t).Cert)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := grpc.NewClient("unix:"+strings.Split(s.line, "|")[3], grpc.WithTransportCredentials(credentials.NewTLS(other)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pluginv1.NewControlServiceClient(stranger).Check(within(t), &pluginv1.CheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a stranger: %v", err)
	}
	if err := errors.Join(stranger.Close(), s.stdin.Close()); err != nil {
		t.Error(err)
	}
	s.exits(t, 3)
}
