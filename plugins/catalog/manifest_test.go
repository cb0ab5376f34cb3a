package catalog

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goodManifest = `
name: jobs
version: 1.2.0-rc.1+build.7
summary: Jobs on a schedule
protocol: 1
language: go
services: [acme.jobs.v1.JobService]
config: acme.jobs.v1.Config
descriptors: {file: api/jobs.binpb}
binaries:
  linux/amd64: {file: jobs_linux_amd64}
  any: {file: jobs.pyz}
limits: {memory: 256MiB, cpus: 0.5, open_files: 1024, start_timeout: 20s}
host_socket: true
`

func TestManifest(t *testing.T) {
	m, err := ParseManifest([]byte(goodManifest))
	if err != nil {
		t.Fatal(err)
	}
	if m.Limits.Memory != 256<<20 || time.Duration(m.Limits.StartTimeout) != 20*time.Second || m.Binaries["any"].File != "jobs.pyz" || !m.HostSocket {
		t.Errorf("%+v", m)
	}
	for platform, want := range map[string]string{"linux/amd64": "jobs_linux_amd64", "plan9/386": "jobs.pyz"} {
		if f, err := m.Binary(platform); err != nil || f.File != want {
			t.Errorf("%s: %+v, %v", platform, f, err)
		}
	}
	delete(m.Binaries, "any")
	if _, err := m.Binary("plan9/386"); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "there are: linux/amd64") {
		t.Errorf("no binary: %v", err)
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseManifest(b); err != nil || again.Limits != m.Limits || again.Version != m.Version {
		t.Errorf("written and read again: %+v, %v\n%s", again, err, b)
	}
}

// Each mistake is one change of a manifest that is right.
func TestMistakesInManifests(t *testing.T) {
	for name, c := range map[string]struct{ replace, by, want string }{
		"an unknown key":          {"summary:", "summaries:", `summaries: unknown key; did you mean "summary"?`},
		"an unknown key inside":   {"{file: jobs.pyz}", "{file: jobs.pyz, sha265: a}", `binaries.any.sha265: unknown key; did you mean "sha256"?`},
		"a key given twice":       {"language: go", "name: jobs", "line 6: key \"name\""},
		"not YAML":                {"language: go", "language: [", "line "},
		"another type":            {"protocol: 1", "protocol: one", "protocol: string is not a whole number"},
		"another type inside":     {"{file: api/jobs.binpb}", "api/jobs.binpb", "descriptors: string is not a group of keys"},
		"no name":                 {"name: jobs", "name: ''", "name: is empty"},
		"a bad name":              {"name: jobs", "name: Jobs", `name: "Jobs": lower-case`},
		"a long name":             {"name: jobs", "name: " + strings.Repeat("a", 64), "name: has 64 characters; at most 63"},
		"no version":              {"version: 1.2.0-rc.1+build.7", "", "version: is empty"},
		"a bad version":           {"1.2.0-rc.1+build.7", "v1.2", `version: "v1.2"`},
		"a version with a path":   {"1.2.0-rc.1+build.7", "1.2.0/../../x", "version: "},
		"no summary":              {"Jobs on a schedule", "''", "summary: is empty"},
		"a summary of two lines":  {"Jobs on a schedule", `"a\nb"`, "summary: one line"},
		"no protocol":             {"protocol: 1", "", "protocol: is missing; this host speaks 1"},
		"no services":             {"[acme.jobs.v1.JobService]", "[]", "services: 0 of them"},
		"a bad service":           {"[acme.jobs.v1.JobService]", "[JobService]", "services[0]: "},
		"a service twice":         {"[acme.jobs.v1.JobService]", "[a.B, a.B]", "services[1]: a.B is given twice"},
		"a bad config":            {"config: acme.jobs.v1.Config", "config: Config", "config: "},
		"no descriptors":          {"descriptors: {file: api/jobs.binpb}", "", "descriptors.file: is empty"},
		"descriptors outside":     {"api/jobs.binpb", "../jobs.binpb", "descriptors.file: "},
		"a binary with a root":    {"jobs.pyz", "/bin/sh", "binaries.any.file: "},
		"a binary in disguise":    {"jobs.pyz", "plugin.yaml", "binaries.any.file: "},
		"a bad platform":          {"  any:", "  linux:", "binaries: "},
		"a bad sum":               {"{file: jobs.pyz}", "{file: jobs.pyz, sha256: ABC}", "binaries.any.sha256: "},
		"too little memory":       {"256MiB", "1MiB", "limits.memory: 1MiB: between 16MiB and 1TiB"},
		"memory without a unit":   {"256MiB", "lots", "limits.memory: "},
		"memory beyond all sizes": {"256MiB", "9999999999999TiB", "limits.memory: "},
		"too many processors":     {"cpus: 0.5", "cpus: 1e6", "limits.cpus: "},
		"no files":                {"open_files: 1024", "open_files: -1", "limits.open_files: "},
		"a bad duration":          {"20s", "20", "limits.start_timeout: "},
		"a long start":            {"20s", "20h", "limits.start_timeout: "},
		"a list":                  {goodManifest, "[]", "not a group of keys"},
		"nothing":                 {goodManifest, "", "the file is empty"},
		"too much":                {goodManifest, goodManifest + strings.Repeat("#", maxManifest), "at most 65536"},
	} {
		bad := strings.Replace(goodManifest, c.replace, c.by, 1)
		if bad == goodManifest {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := ParseManifest([]byte(bad)); !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestConfig(t *testing.T) {
	if c, err := ParseConfig(nil); err != nil || c.policy() != PolicyOff || c.dir("/d") != "/d/plugins" {
		t.Errorf("none: %+v, %v", c, err)
	}
	c, err := ParseConfig([]byte(`{"dir":"/p","keys":["` + minisignKey + `"],"quarantine":{"crashes":3,"within":"1m"}}`))
	if err != nil || c.policy() != PolicyRequire || c.dir("/d") != "/p" || time.Duration(c.Quarantine.Within) != time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
	if keys, err := c.keys(); err != nil || len(keys) != 1 {
		t.Errorf("keys: %v", err)
	}
	for raw, want := range map[string]string{
		`{"polcy":"off"}`:                  `plugins.polcy: unknown key; did you mean "policy"?`,
		`{"policy":"maybe"}`:               `plugins.policy: "maybe" is not one of require, warn, off`,
		`{"policy":"require"}`:             "plugins.keys: is empty",
		`{"quarantine":{"crashes":-1}}`:    "plugins.quarantine.crashes: -1: between 1 and 1000",
		`{"quarantine":{"within":"1ms"}}`:  "plugins.quarantine.within: 1ms: between 1s",
		`{"quarantine":{"within":"soon"}}`: `plugins.quarantine.within: "soon" is not a length of time`,
		`{"dir":1}`:                        "plugins.dir: number is not text",
		`{"quarantine":{"crashs":5}}`:      `plugins.quarantine.crashs: unknown key; did you mean "crashes"?`,
		`{"dir":"a","keys":[1]}`:           "plugins.keys: number is not text",
		`["a"]`:                            "plugins: is not a group of keys",
	} {
		if _, err := ParseConfig([]byte(raw)); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, key := range []string{"RWnonsense", "/nowhere", minisignKey[:55] + "!"} {
		if _, err := Open(Config{Keys: []string{key}}, t.TempDir()); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "plugins.keys[0]") {
			t.Errorf("key %q: %v", key, err)
		}
	}
}

// Names of plugins never meet those of the host's own files.
func TestWhereThePluginsAre(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for dir, good := range map[string]bool{
		"": true, "mine": true, "..plugins": true, filepath.Join(filepath.Dir(data), "beside"): true,
		".": false, "..": false, "/": false, "store": false, "store/plugins": false, data: false, "./x/..": false,
	} {
		if _, err := Open(Config{Dir: dir}, data); (err == nil) != good || err != nil && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "plugins.dir")) {
			t.Errorf("%q: %v", dir, err)
		}
	}
	c, data := newCatalog(t, Config{})
	other := filepath.Join(data, "plugins", "other")
	must(t, os.MkdirAll(filepath.Join(other, "files"), 0o700))
	if err := c.Remove("other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a folder that holds no plugin: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("it was removed: %v", err)
	}
	must(t, os.Remove(filepath.Join(other, "files")))
	must(t, c.Remove("other"))
}

func decoded(t *testing.T, file []byte) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(lastLine(string(file)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encoded(b []byte) []byte { return []byte("x\n" + base64.StdEncoding.EncodeToString(b) + "\n") }
