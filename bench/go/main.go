// The Go peer: the same work as in src/work/, step by step, in Go's own idiom.
//
// Usage: go-peer WORK key=value...   (GOMAXPROCS is set to `workers`.)
// Prints one JSON line: {"metrics":{...},"check":N}.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type params map[string]uint64

func (p params) get(key string) uint64 {
	value, ok := p[key]
	if !ok {
		fmt.Fprintf(os.Stderr, "this work needs %s=…\n", key)
		os.Exit(2)
	}
	return value
}

type outcome struct {
	Metrics map[string]float64 `json:"metrics"`
	Check   uint64             `json:"check"`
}

func perOp(check, ops uint64, elapsed time.Duration) outcome {
	return outcome{map[string]float64{
		"ns": float64(elapsed.Nanoseconds()) / float64(ops),
		"s":  elapsed.Seconds(),
	}, check}
}

func (o outcome) withLateness(late []uint64) outcome {
	slices.Sort(late)
	at := func(share float64) float64 { return float64(late[int(float64(len(late)-1)*share)]) / 1e6 }
	o.Metrics["late_p50_ms"] = at(0.50)
	o.Metrics["late_p99_ms"] = at(0.99)
	o.Metrics["late_max_ms"] = at(1)
	return o
}

func statusBytes(field string) uint64 {
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return kb * 1024
		}
	}
	return 0
}

func memoryNow() uint64 { return statusBytes("VmRSS") + statusBytes("VmPTE") }

func cpuSeconds() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}

func main() {
	p := params{}
	for _, word := range os.Args[2:] {
		key, value, _ := strings.Cut(word, "=")
		number, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, word, err)
			os.Exit(2)
		}
		p[key] = number
	}
	works := map[string]func(params) outcome{
		"yield": yields, "spawn-join": oneAtATime, "spawn-many": many,
		"ping-pong": pingPong, "rendezvous": rendezvous, "timeout": timeout, "channel": stream, "mutex": contend,
		"sleepers": once, "playground": playground, "parked": parked,
		"fib": fibOf, "skynet": skynet, "preempt": behindSpinner,
	}
	work, ok := works[os.Args[1]]
	if !ok {
		fmt.Fprintf(os.Stderr, "no work is called %q\n", os.Args[1])
		os.Exit(2)
	}
	runtime.GOMAXPROCS(int(p.get("workers")))
	o := work(p)
	o.Metrics["cpu_s"] = cpuSeconds()
	o.Metrics["peak_gb"] = float64(statusBytes("VmHWM")+statusBytes("VmPTE")) / 1e9
	line, _ := json.Marshal(o)
	fmt.Println(string(line))
}

func yields(p params) outcome {
	threads, each := p.get("threads"), p.get("each")
	warm := max(each/10, 2)
	var arrived, warmed, ended, last, switches, yielded atomic.Uint64
	var gate, start atomic.Bool
	var begin, end time.Time
	var all sync.WaitGroup
	for i := uint64(1); i <= threads; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			if arrived.Add(1) == threads {
				gate.Store(true)
			}
			for !gate.Load() {
				runtime.Gosched()
			}
			switched := uint64(0)
			for j := uint64(0); j < warm; j++ {
				if last.Swap(i) != i {
					switched++
				}
				runtime.Gosched()
			}
			switches.Add(switched)
			if warmed.Add(1) == threads {
				begin = time.Now()
				start.Store(true)
			}
			for !start.Load() {
				runtime.Gosched()
			}
			mine := uint64(0)
			for j := uint64(0); j < each; j++ {
				runtime.Gosched()
				mine++
			}
			yielded.Add(mine)
			if ended.Add(1) == threads {
				end = time.Now()
			}
		}()
	}
	all.Wait()
	o := perOp(yielded.Load(), threads*(each+1)-1, end.Sub(begin))
	o.Metrics["switched"] = float64(switches.Load()) / float64(threads*warm)
	return o
}

func oneAtATime(p params) outcome {
	n := p.get("n")
	sumOf := func(n uint64) (sum uint64) {
		for i := uint64(0); i < n; i++ {
			result := make(chan uint64, 1)
			go func() { result <- i }()
			sum += <-result
		}
		return sum
	}
	warmed = sumOf(n / 10)
	begin := time.Now()
	sum := sumOf(n)
	return perOp(sum, n, time.Since(begin))
}

// warmed keeps results that nobody asks for from being optimised away.
var warmed uint64

func many(p params) outcome {
	n := p.get("n")
	begin := time.Now()
	var all sync.WaitGroup
	var left atomic.Uint64
	left.Store(n)
	all.Add(1)
	for i := uint64(0); i < n; i++ {
		go func() {
			if left.Add(^uint64(0)) == 0 {
				all.Done()
			}
		}()
	}
	all.Wait()
	elapsed := time.Since(begin)
	return perOp(n-left.Load(), n, elapsed)
}

func pingPong(p params) outcome {
	return thereAndBack(p.get("n"), 1, func(from chan uint64) uint64 { return <-from })
}

func rendezvous(p params) outcome {
	return thereAndBack(p.get("n"), 0, func(from chan uint64) uint64 { return <-from })
}

func timeout(p params) outcome {
	limit := time.NewTimer(10 * time.Second)
	return thereAndBack(p.get("n"), 1, func(from chan uint64) uint64 {
		limit.Reset(10 * time.Second)
		select {
		case number := <-from:
			limit.Stop()
			return number
		case <-limit.C:
			panic("not in time")
		}
	})
}

func thereAndBack(n uint64, capacity uint64, answer func(chan uint64) uint64) outcome {
	there, back := make(chan uint64, capacity), make(chan uint64, capacity)
	var echo sync.WaitGroup
	echo.Add(1)
	go func() {
		defer echo.Done()
		for number := range there {
			back <- number + 1
		}
	}()
	rounds := func(n uint64) (sum uint64) {
		for i := uint64(0); i < n; i++ {
			there <- i
			sum += answer(back)
		}
		return sum
	}
	warmed = rounds(n / 10)
	begin := time.Now()
	sum := rounds(n)
	elapsed := time.Since(begin)
	close(there)
	echo.Wait()
	return perOp(sum, n, elapsed)
}

func stream(p params) outcome {
	pairs, n := p.get("pairs"), p.get("n")
	messages := make(chan uint64, p.get("capacity"))
	var sum, taken atomic.Uint64
	var takers, givers sync.WaitGroup
	begin := time.Now()
	for i := uint64(0); i < pairs; i++ {
		takers.Add(1)
		go func() {
			defer takers.Done()
			mySum, myTaken := uint64(0), uint64(0)
			for number := range messages {
				mySum += number
				myTaken++
			}
			sum.Add(mySum)
			taken.Add(myTaken)
		}()
	}
	for me := uint64(0); me < pairs; me++ {
		givers.Add(1)
		go func() {
			defer givers.Done()
			for i := me; i < n; i += pairs {
				messages <- i
			}
		}()
	}
	givers.Wait()
	close(messages)
	takers.Wait()
	elapsed := time.Since(begin)
	if taken.Load() != n {
		panic("messages were lost")
	}
	return perOp(sum.Load(), n, elapsed)
}

func contend(p params) outcome {
	threads, n := p.get("threads"), p.get("n")
	each := n / threads
	var mutex sync.Mutex
	sum := uint64(0)
	var all sync.WaitGroup
	begin := time.Now()
	for i := uint64(0); i < threads; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := uint64(0); j < each; j++ {
				mutex.Lock()
				sum++
				mutex.Unlock()
			}
		}()
	}
	all.Wait()
	return perOp(sum, n, time.Since(begin))
}

// sleepOf is spread::sleep_us.
func sleepOf(i, minUs, maxUs uint64) time.Duration {
	mixed := (i * 2654435769) & 0xFFFFFFFF
	return time.Duration(minUs+mixed*(maxUs-minUs)>>32) * time.Microsecond
}

const neverBack = ^uint64(0)

func once(p params) outcome {
	n, minUs, maxUs := p.get("threads"), p.get("min_us"), p.get("max_us")
	begin := time.Now()
	lateness := make([]uint64, n)
	for i := range lateness {
		lateness[i] = neverBack
	}
	var all sync.WaitGroup
	all.Add(int(n))
	for i := uint64(0); i < n; i++ {
		go func() {
			sleep := sleepOf(i, minUs, maxUs)
			due := time.Now().Add(sleep)
			time.Sleep(sleep)
			if late := time.Since(due); late >= 0 {
				lateness[i] = uint64(late)
			}
			all.Done()
		}()
	}
	all.Wait()
	elapsed := time.Since(begin)
	late := slices.DeleteFunc(lateness, func(l uint64) bool { return l == neverBack })
	o := outcome{map[string]float64{"s": elapsed.Seconds()}, uint64(len(late))}
	return o.withLateness(late)
}

func playground(p params) outcome {
	n, sleeps := p.get("threads"), p.get("sleeps")
	sleep := time.Duration(p.get("sleep_us")) * time.Microsecond
	var slept atomic.Uint64
	var all sync.WaitGroup
	all.Add(int(n))
	begin := time.Now()
	for i := uint64(0); i < n; i++ {
		go func() {
			for j := uint64(0); j < sleeps; j++ {
				time.Sleep(sleep)
			}
			slept.Add(sleeps)
			all.Done()
		}()
	}
	all.Wait()
	return outcome{map[string]float64{"s": time.Since(begin).Seconds()}, slept.Load()}
}

func parked(p params) outcome {
	n := p.get("threads")
	messages := make(chan uint64, 1024)
	var arrived, sum atomic.Uint64
	allThere := make(chan time.Time, 1)
	var all sync.WaitGroup
	all.Add(int(n))

	before := memoryNow()
	begin := time.Now()
	for i := uint64(0); i < n; i++ {
		go func() {
			if arrived.Add(1) == n {
				allThere <- time.Now()
			}
			sum.Add(<-messages)
			all.Done()
		}()
	}
	spawned := (<-allThere).Sub(begin)
	time.Sleep(50 * time.Millisecond) // the last to arrive parks
	bytes := memoryNow() - before

	begin = time.Now()
	for i := uint64(0); i < n; i++ {
		messages <- i
	}
	all.Wait()
	woken := time.Since(begin)
	return outcome{map[string]float64{
		"bytes":    float64(bytes) / float64(n),
		"spawn_ns": float64(spawned.Nanoseconds()) / float64(n),
		"wake_ns":  float64(woken.Nanoseconds()) / float64(n),
	}, sum.Load()}
}

func fibOf(p params) outcome {
	n := p.get("n")
	begin := time.Now()
	result := fib(n)
	calls, next := uint64(1), uint64(1)
	for i := uint64(0); i < n; i++ {
		calls, next = next, calls+next+1
	}
	return perOp(result, calls, time.Since(begin))
}

func fib(n uint64) uint64 {
	if n < 2 {
		return n
	}
	var one, two uint64
	var both sync.WaitGroup
	both.Add(2)
	go func() { one = fib(n - 1); both.Done() }()
	go func() { two = fib(n - 2); both.Done() }()
	both.Wait()
	return one + two
}

func skynet(p params) outcome {
	leaves := p.get("leaves")
	begin := time.Now()
	root := make(chan uint64, 10)
	go node(root, 0, leaves)
	sum := <-root
	return perOp(sum, leaves, time.Since(begin))
}

func node(parent chan<- uint64, number, leaves uint64) {
	if leaves == 1 {
		parent <- number
		return
	}
	answers := make(chan uint64, 10)
	below := leaves / 10
	for branch := uint64(0); branch < 10; branch++ {
		go node(answers, number+branch*below, below)
	}
	sum := uint64(0)
	for branch := 0; branch < 10; branch++ {
		sum += <-answers
	}
	parent <- sum
}

func behindSpinner(p params) outcome {
	samples, allocating := int(p.get("samples")), p["alloc"] != 0
	var stop atomic.Bool
	var spinners sync.WaitGroup
	var all atomic.Uint64
	for range p.get("spinners") {
		spinners.Add(1)
		go func() {
			defer spinners.Done()
			turns := uint64(0)
			for !stop.Load() {
				if allocating {
					block = make([]byte, 64+turns&1023)
				}
				turns++
			}
			all.Add(turns)
		}()
	}
	late := make([]uint64, 0, samples)
	limit := time.Now().Add(time.Duration(p.get("limit_us")) * time.Microsecond)
	for len(late) < samples {
		due := time.Now().Add(time.Millisecond)
		time.Sleep(time.Millisecond)
		now := time.Now()
		if now.After(limit) {
			break
		}
		late = append(late, uint64(max(now.Sub(due), 0)))
	}
	stop.Store(true)
	spinners.Wait()
	if all.Load() == 0 {
		panic("the spinners did not run")
	}
	o := outcome{map[string]float64{"spins": float64(all.Load())}, uint64(len(late))}
	if len(late) > 0 {
		o = o.withLateness(late)
	}
	return o
}

// block keeps the allocations of the spinner on the heap.
var block []byte
