package catalog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"sigs.k8s.io/yaml"
)

// The names of a plugin's files.
const (
	ManifestName  = "plugin.yaml"
	SignatureName = ManifestName + ".minisig"
)

// Protocol is the version of the control protocol that this host speaks.
const Protocol = 1

// AnyPlatform is the key in Manifest.Binaries of a file that runs everywhere, such
// as a script.
const AnyPlatform = "any"

// What a manifest may hold.
const (
	maxName    = 63
	maxSummary = 200
	maxPath    = 200

	minMemory, maxMemory       = 16 << 20, 1 << 40
	minCPUs, maxCPUs           = 0.1, 1024
	minFiles, maxFiles         = 64, 1 << 20
	minStart, maxStart         = time.Second, 5 * time.Minute
	maxServices                = 100
	maxPlatforms               = 100
	maxManifest                = 64 << 10
	maxSignature               = 4 << 10
	maxDescriptors             = 8 << 20
	maxBinary            int64 = 1 << 30
)

// A Manifest is what a plugin says of itself: its plugin.yaml.
type Manifest struct {
	// Name is the recipe's, and the segment of its keys.
	Name string `json:"name"`
	// Version is semantic, without a leading v.
	Version string `json:"version"`
	// Summary is one line.
	Summary string `json:"summary"`
	// Protocol is the version of the control protocol that the plugin speaks.
	Protocol int `json:"protocol"`
	// Language is for people, such as "go". May be empty.
	Language string `json:"language,omitempty"`
	// Services are the full names of the services that the plugin serves.
	Services []string `json:"services"`
	// Config is the full name of the message with which the plugin is configured.
	// Empty: it takes none.
	Config string `json:"config,omitempty"`
	// Descriptors is a FileDescriptorSet with the services, the configuration, and
	// all that they need.
	Descriptors File `json:"descriptors"`
	// Binaries are the files to run, by platform: "linux/amd64" and the like, or
	// AnyPlatform.
	Binaries map[string]File `json:"binaries"`
	// Limits bound what the process may take. Zero: no limit.
	Limits Limits `json:"limits,omitzero"`
	// HostSocket says that the plugin reaches etcd through a socket of the host
	// instead of go-plugin's broker. It is for other languages than Go.
	HostSocket bool `json:"host_socket,omitempty"`
}

// A File is one of a plugin's files.
type File struct {
	// File is its path in the plugin's folder, with slashes.
	File string `json:"file"`
	// SHA256 is of its content, in hexadecimal. Empty: whatever is found when the
	// plugin is added.
	SHA256 string `json:"sha256,omitempty"`
}

// Limits bound what a plugin's process may take.
type Limits struct {
	Memory       Size     `json:"memory,omitempty"`        // bytes
	CPUs         float64  `json:"cpus,omitempty"`          // how many processors at a time
	OpenFiles    int64    `json:"open_files,omitempty"`    // and sockets
	StartTimeout Duration `json:"start_timeout,omitempty"` // from its start until it can be opened; 0: the host's default
}

// ParseManifest reads a manifest. An error is [ErrManifest] and names the key and
// its limits; one of a value that is not YAML names the line.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > maxManifest {
		return nil, fmt.Errorf("%w: %d bytes; a manifest has at most %d", ErrManifest, len(b), maxManifest)
	}
	m := new(Manifest)
	if err := decode(b, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, nil
}

// Marshal writes the manifest as YAML.
func (m *Manifest) Marshal() ([]byte, error) { return yaml.Marshal(m) }

// Binary returns the file for a platform, such as "linux/amd64". The error is
// [ErrUnsupported] if there is none.
func (m *Manifest) Binary(platform string) (File, error) {
	for _, key := range []string{platform, AnyPlatform} {
		if f, ok := m.Binaries[key]; ok {
			return f, nil
		}
	}
	var there []string
	for key := range m.Binaries {
		there = append(there, key)
	}
	slices.Sort(there)
	return File{}, fmt.Errorf("%w: binaries: none for %s; there are: %s", ErrUnsupported, platform, strings.Join(there, ", "))
}

var (
	namePattern     = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	versionPattern  = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
	fullNamePattern = regexp.MustCompile(`^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$`)
	platformPattern = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+$`)
)

// CheckName returns an error that is [ErrManifest] for what cannot be a plugin's
// name.
func CheckName(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("name: is empty")
	case len(name) > maxName:
		return fmt.Errorf("name: has %d characters; at most %d", len(name), maxName)
	case !namePattern.MatchString(name):
		return fmt.Errorf("name: %q: lower-case letters, digits and hyphens, beginning with a letter", name)
	}
	return nil
}

func (m *Manifest) check() error {
	if err := checkName(m.Name); err != nil {
		return err
	}
	switch {
	case m.Version == "":
		return errors.New("version: is empty")
	case len(m.Version) > maxName || !versionPattern.MatchString(m.Version):
		return fmt.Errorf("version: %q: a semantic version without a leading v, such as 1.2.0, of at most %d characters", m.Version, maxName)
	case strings.TrimSpace(m.Summary) == "":
		return errors.New("summary: is empty")
	case len(m.Summary) > maxSummary || strings.ContainsFunc(m.Summary, unicode.IsControl):
		return fmt.Errorf("summary: one line of at most %d bytes", maxSummary)
	case m.Protocol == 0:
		return fmt.Errorf("protocol: is missing; this host speaks %d", Protocol)
	case len(m.Language) > maxName || strings.ContainsFunc(m.Language, unicode.IsControl):
		return fmt.Errorf("language: one word of at most %d bytes", maxName)
	}
	for _, err := range []error{m.checkServices(), m.checkFiles(), m.Limits.check()} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Manifest) checkServices() error {
	if len(m.Services) == 0 || len(m.Services) > maxServices {
		return fmt.Errorf("services: %d of them; a plugin has 1 to %d", len(m.Services), maxServices)
	}
	for i, s := range m.Services {
		if !fullNamePattern.MatchString(s) {
			return fmt.Errorf("services[%d]: %q is not a service's full name, such as acme.jobs.v1.JobService", i, s)
		}
		if slices.Contains(m.Services[:i], s) {
			return fmt.Errorf("services[%d]: %s is given twice", i, s)
		}
	}
	if m.Config != "" && !fullNamePattern.MatchString(m.Config) {
		return fmt.Errorf("config: %q is not a message's full name, such as acme.jobs.v1.Config", m.Config)
	}
	return nil
}

func (m *Manifest) checkFiles() error {
	if err := m.Descriptors.check("descriptors"); err != nil {
		return err
	}
	if len(m.Binaries) == 0 || len(m.Binaries) > maxPlatforms {
		return fmt.Errorf("binaries: %d of them; a plugin has 1 to %d, by platform such as linux/amd64", len(m.Binaries), maxPlatforms)
	}
	for platform, f := range m.Binaries {
		if platform != AnyPlatform && !platformPattern.MatchString(platform) {
			return fmt.Errorf("binaries: %q is not a platform such as linux/amd64, and not %q", platform, AnyPlatform)
		}
		if err := f.check("binaries." + platform); err != nil {
			return err
		}
	}
	return nil
}

func (f File) check(field string) error {
	switch {
	case f.File == "":
		return fmt.Errorf("%s.file: is empty", field)
	case len(f.File) > maxPath || f.File != path.Clean(f.File) || !filepath.IsLocal(filepath.FromSlash(f.File)) ||
		strings.ContainsFunc(f.File, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }):
		return fmt.Errorf("%s.file: %q: a path inside the plugin's folder, of at most %d bytes", field, f.File, maxPath)
	case f.File == ManifestName || f.File == SignatureName:
		return fmt.Errorf("%s.file: %q is the name of another file", field, f.File)
	}
	if f.SHA256 == "" {
		return nil
	}
	if b, err := hex.DecodeString(f.SHA256); err != nil || len(b) != 32 || strings.ToLower(f.SHA256) != f.SHA256 {
		return fmt.Errorf("%s.sha256: %q: 64 lower-case hexadecimal digits", field, f.SHA256)
	}
	return nil
}

func (l Limits) check() error {
	start := time.Duration(l.StartTimeout)
	switch {
	case l.Memory != 0 && (l.Memory < minMemory || l.Memory > maxMemory):
		return fmt.Errorf("limits.memory: %s: between 16MiB and 1TiB", l.Memory)
	case l.CPUs != 0 && (l.CPUs < minCPUs || l.CPUs > maxCPUs):
		return fmt.Errorf("limits.cpus: %g: between %g and %d", l.CPUs, minCPUs, maxCPUs)
	case l.OpenFiles != 0 && (l.OpenFiles < minFiles || l.OpenFiles > maxFiles):
		return fmt.Errorf("limits.open_files: %d: between %d and %d", l.OpenFiles, minFiles, maxFiles)
	case start != 0 && (start < minStart || start > maxStart):
		return fmt.Errorf("limits.start_timeout: %s: between %s and 5m", start, minStart)
	}
	return nil
}
