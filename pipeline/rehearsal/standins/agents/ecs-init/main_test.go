package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ovenproof.invalid/standins/host"
)

const document = `{"accountId":"123456789012","instanceId":"i-1","region":"eu-west-1"}`

var identity = host.Identity{AccountID: "123456789012", InstanceID: "i-1", Region: "eu-west-1"}

func goodMachine(t *testing.T, ping string) machine {
	t.Helper()
	folder := t.TempDir()
	socket := filepath.Join(folder, "docker.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	docker := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(ping)) })}
	go docker.Serve(listener)
	t.Cleanup(func() { docker.Close() })
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(document)) }))
	t.Cleanup(metadata.Close)
	return machine{
		cluster:       "default",
		stateFile:     filepath.Join(folder, "data", "agent.db"),
		dockerSocket:  socket,
		metadataURL:   metadata.URL,
		introspection: freeAddress(t),
		credentials:   freeAddress(t),
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestItKeepsItsArnOverARestartOfTheSameInstance(t *testing.T) {
	here := goodMachine(t, "OK")
	first, err := register(here, identity)
	if err != nil {
		t.Fatal(err)
	}
	again, err := register(here, identity)
	if err != nil || again != first || !strings.HasPrefix(first.ContainerInstanceArn,
		"arn:aws:ecs:eu-west-1:123456789012:container-instance/default/") {
		t.Fatalf("%+v, then %+v, %v", first, again, err)
	}
}

func TestStateOfAnotherInstanceIsReplaced(t *testing.T) {
	here := goodMachine(t, "OK")
	baked, err := register(here, host.Identity{AccountID: "123456789012", InstanceID: "i-builder", Region: "eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := register(here, identity)
	if err != nil || fresh.EC2InstanceID != "i-1" || fresh.ContainerInstanceArn == baked.ContainerInstanceArn {
		t.Fatalf("%+v, %v", fresh, err)
	}
}

func TestStateOfAnotherClusterOrDamagedStateStopsTheAgentForGood(t *testing.T) {
	cases := map[string]struct{ content, text string }{
		"other cluster": {
			`{"Cluster":"blue","EC2InstanceID":"i-1"}`,
			"terminal: Data mismatch; saved cluster 'blue' does not match configured cluster 'default'",
		},
		"damaged": {`{`, "terminal: "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			here := goodMachine(t, "OK")
			if err := os.MkdirAll(filepath.Dir(here.stateFile), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(here.stateFile, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			err := run(context.Background(), here)
			if !errors.Is(err, errTerminal) || !strings.HasPrefix(err.Error(), c.text) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestWithoutDockerOrIdentityItEndsSoThatSystemdTriesAgain(t *testing.T) {
	cases := map[string]struct {
		ping, metadataURL, text string
	}{
		"docker is not ready": {"starting", "", `docker does not answer: _ping answered 200 OK "starting"`},
		"no metadata service": {"OK", "http://127.0.0.1:1", "no identity from the instance metadata service: "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			here := goodMachine(t, c.ping)
			if c.metadataURL != "" {
				here.metadataURL = c.metadataURL
			}
			err := run(context.Background(), here)
			if err == nil || errors.Is(err, errTerminal) || !strings.HasPrefix(err.Error(), c.text) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestIntrospectionTellsClusterInstanceAndVersion(t *testing.T) {
	here := goodMachine(t, "OK")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, here) }()
	var metadata map[string]string
	if err := json.Unmarshal([]byte(get(t, "http://"+here.introspection+"/v1/metadata")), &metadata); err != nil {
		t.Fatal(err)
	}
	if metadata["Cluster"] != "default" || metadata["Version"] != "Amazon ECS Agent - vunset (stand-in)" {
		t.Errorf("metadata %v", metadata)
	}
	if tasks := get(t, "http://"+here.introspection+"/v1/tasks"); tasks != "{\"Tasks\":[]}\n" {
		t.Errorf("tasks %q", tasks)
	}
	if body := get(t, "http://"+here.credentials+"/v2/credentials/x"); !strings.Contains(body, "InvalidIdInRequest") {
		t.Errorf("credentials %q", body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// get asks until somebody listens.
func get(t *testing.T, url string) string {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		response, err := http.Get(url)
		if err == nil {
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(body)
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
