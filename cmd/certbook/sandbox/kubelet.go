package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// tick is how often the emulated kubelet looks at its manifests.
const tick = 100 * time.Millisecond

// container is what the emulated runtime knows of a running process; it is a
// file below run/demo while the process runs.
type container struct {
	ID        string
	Name      string
	PodUID    string
	Pid       int
	Attempt   int
	CreatedAt time.Time
}

// kubelet plays one master's kubelet and container runtime.
type kubelet struct {
	root     string
	running  map[string]*exec.Cmd // by component
	attempts map[string]int
	ended    chan string
}

func newKubelet(root string) *kubelet {
	return &kubelet{root: root, running: map[string]*exec.Cmd{}, attempts: map[string]int{}, ended: make(chan string, 16)}
}

func containersDir(root string) string { return filepath.Join(root, "run/demo/containers") }

// run works until ctx ends, then stops its processes. started receives one
// value when every manifest's process answers.
func (k *kubelet) run(ctx context.Context, started chan<- struct{}) error {
	if err := os.MkdirAll(containersDir(k.root), 0o755); err != nil {
		return err
	}
	if err := markKubelet(k.root); err != nil {
		return err
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	announced := false
	for {
		if err := k.sync(); err != nil {
			return err
		}
		if !announced && len(k.running) > 0 {
			announced = true
			started <- struct{}{}
		}
		select {
		case name := <-k.ended:
			delete(k.running, name)
		case <-ticker.C:
		case <-ctx.Done():
			k.stopAll()
			return nil
		}
	}
}

// sync makes the processes match the manifests.
func (k *kubelet) sync() error {
	manifests, err := filepath.Glob(filepath.Join(k.root, "etc/kubernetes/manifests/*.yaml"))
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, file := range manifests {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		want[name] = true
		if k.running[name] == nil {
			if err := k.start(name, file); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for name, cmd := range k.running {
		if !want[name] {
			_ = cmd.Process.Signal(syscall.SIGTERM) // when it has ended already, ended tells
		}
	}
	return nil
}

// start runs a component's process and records it as a container.
func (k *kubelet) start(name, manifest string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "demo-emulate", "component", manifest)
	cmd.Env = append(os.Environ(), "CERTBOOK_ROOT="+k.root)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the demo, not for what it runs
	// The process ends when this pipe does: it does not outlive the demo.
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	created := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	c := container{ID: randomID(32), Name: name, PodUID: randomID(16), Pid: cmd.Process.Pid, Attempt: k.attempts[name], CreatedAt: created}
	k.attempts[name]++
	k.running[name] = cmd
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	file := filepath.Join(containersDir(k.root), c.ID)
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file+".json"); err != nil {
		return err
	}
	go func() {
		_ = cmd.Wait() // how it ended does not matter: it is started again
		_ = os.Remove(file + ".json")
		k.ended <- name
	}()
	return nil
}

func (k *kubelet) stopAll() {
	for _, cmd := range k.running {
		_ = cmd.Process.Kill() // when it has ended already there is nothing to do
	}
	for range k.running {
		<-k.ended
	}
}

func randomID(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}

// containers returns a master's running containers.
func containers(root string) ([]container, error) {
	files, err := filepath.Glob(filepath.Join(containersDir(root), "*.json"))
	if err != nil {
		return nil, err
	}
	var list []container
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // it ended just now
		}
		if err != nil {
			return nil, err
		}
		var c container
		if err := json.Unmarshal(data, &c); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// markKubelet records a start of the emulated kubelet service.
func markKubelet(root string) error {
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	seconds, _, _ := strings.Cut(string(uptime), " ")
	state := fmt.Sprintf("%s %s", randomID(16), seconds)
	return write(root, "run/demo/kubelet", []byte(state), 0o600)
}
