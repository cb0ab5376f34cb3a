package launcher

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// A Spec says what a plugin is and how its process is started. Nothing in it was
// learned by running it.
type Spec struct {
	// Name is the recipe's name, Version and Summary what its Info says.
	Name, Version, Summary string
	// Path is the program, an absolute path.
	Path string
	// Args are its arguments.
	Args []string
	// SHA256 is the program's, and is compared at every start. Nil: the program is
	// trusted as it is, as a host's own is.
	SHA256 []byte
	// Descriptors hold the files of the services and the configuration, and all
	// that they import.
	Descriptors *descriptorpb.FileDescriptorSet
	// Services are the full names of the recipe's services.
	Services []string
	// Config is the full name of the message that configures it. Empty: it takes
	// no configuration.
	Config string
	// Limits bound what the process takes.
	Limits Limits
	// HostSocket says that the process reaches etcd by a socket of the host's, for
	// programs without go-plugin's broker.
	HostSocket bool
	// Attach is what plugins.Debug returned: a program that runs already is taken for
	// the process, under a debugger or in a test. Path, Args, SHA256, Limits and Env
	// then say nothing. Empty: the program at Path is started.
	Attach string
	// Env is added to the environment of the process, which has otherwise nothing
	// of the host's but PATH, the language and the time zone. KEY=value.
	Env []string
}

// Limits bound what a process takes. Zero: no limit, or the default that is named.
type Limits struct {
	// MemoryBytes of resident memory. Programs in Go are told to stay below it; a
	// process that goes beyond is killed, and started again as after a crash.
	MemoryBytes int64
	// CPUs that a program in Go uses at a time. It is advice: nothing enforces it.
	CPUs float64
	// OpenFiles at a time.
	OpenFiles uint64
	// StartTimeout is how long the process may take from its start until the recipe
	// is open. Default 15 s.
	StartTimeout time.Duration
}

// DefaultStartTimeout is how long a process may take to start.
const DefaultStartTimeout = 15 * time.Second

// ErrSpec is the error of a Spec that no process is started for.
var ErrSpec = errors.New("invalid plugin")

func specError(name, field, format string, args ...any) error {
	return fmt.Errorf("%w %q: %s: %w", ErrSpec, name, field, fmt.Errorf(format, args...))
}

// A resolved is a Spec with its descriptors.
type resolved struct {
	Spec

	services []protoreflect.ServiceDescriptor // in the order of their names
	config   protoreflect.MessageDescriptor   // nil: it takes none
}

// resolve checks a Spec, and finds what it names in its descriptors.
func resolve(s Spec) (*resolved, error) {
	switch {
	case s.Name == "":
		return nil, specError(s.Name, "name", "is empty")
	case s.Path == "" && s.Attach == "":
		return nil, specError(s.Name, "path", "is empty")
	case len(s.SHA256) != 0 && len(s.SHA256) != sha256Size:
		return nil, specError(s.Name, "sha256", "has %d bytes instead of %d", len(s.SHA256), sha256Size)
	case len(s.Services) == 0:
		return nil, specError(s.Name, "services", "is empty")
	}
	if s.Attach != "" {
		s.SHA256, s.Limits, s.HostSocket = nil, Limits{StartTimeout: s.Limits.StartTimeout}, true
	}
	if s.Limits.StartTimeout <= 0 {
		s.Limits.StartTimeout = DefaultStartTimeout
	}
	files, err := filesOf(s.Descriptors)
	if err != nil {
		return nil, specError(s.Name, "descriptors", "%w", err)
	}
	r := &resolved{Spec: s}
	names := slices.Clone(s.Services)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		sd, err := find[protoreflect.ServiceDescriptor](files, name)
		if err != nil {
			return nil, specError(s.Name, "services", "%s: %w", name, err)
		}
		r.services = append(r.services, sd)
	}
	if s.Config != "" {
		if r.config, err = find[protoreflect.MessageDescriptor](files, s.Config); err != nil {
			return nil, specError(s.Name, "config", "%s: %w", s.Config, err)
		}
	}
	return r, nil
}

// filesOf links descriptors. The options of methods are decoded anew, so that what
// this program knows of them is found wherever the set comes from.
func filesOf(set *descriptorpb.FileDescriptorSet) (*protoregistry.Files, error) {
	b, err := proto.Marshal(set)
	if err != nil {
		return nil, err
	}
	fresh := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(b, fresh); err != nil {
		return nil, err
	}
	return protodesc.NewFiles(fresh)
}

func find[D protoreflect.Descriptor](files *protoregistry.Files, name string) (D, error) {
	d, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		var none D
		return none, errors.New("is not in the descriptors")
	}
	found, ok := d.(D)
	if !ok {
		return found, errors.New("is something else in the descriptors")
	}
	return found, nil
}

// prototype returns the message that configurations are read into.
func (r *resolved) prototype() proto.Message {
	if r.config == nil {
		return nil
	}
	return dynamicpb.NewMessage(r.config)
}

// environment returns the environment of the process: nothing that the host knows
// and a plugin need not.
func (r *resolved) environment(host map[string]string) []string {
	var env []string
	for _, key := range []string{"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"} {
		if v, ok := host[key]; ok {
			env = append(env, key+"="+v)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.Limits.advice())) {
		env = append(env, key+"="+r.Limits.advice()[key])
	}
	return append(env, r.Env...)
}

// advice is what Go's runtime is told about the limits. The part of the memory
// that is left is for what the runtime does not count.
func (l Limits) advice() map[string]string {
	advice := make(map[string]string)
	if l.MemoryBytes > 0 {
		advice["GOMEMLIMIT"] = fmt.Sprint(l.MemoryBytes / 10 * 9)
	}
	if l.CPUs > 0 {
		advice["GOMAXPROCS"] = fmt.Sprint(max(1, int(l.CPUs+0.999)))
	}
	return advice
}
