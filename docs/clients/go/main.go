package main // Send JSON objects from standard input, one a line, to a Telemetry Hub.
import (
	"bufio"
	"github.com/gorilla/websocket"
	"os"
	"time"
)

func main() {
	readings, answers, batch, answered := make(chan string, 10_000), make(chan string), "", time.Now()
	token := map[string][]string{"Authorization": {"Bearer " + os.Getenv("HUB_TOKEN")}}
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			readings <- `,{"time":"` + time.Now().Format(time.RFC3339Nano) + `",` + lines.Text()[1:]
		}
		readings <- ","
	}()
	for ; ; time.Sleep(time.Duration(time.Now().UnixNano()) % min(time.Second/2+time.Since(answered), 30*time.Second)) {
		hub, _, err := websocket.DefaultDialer.Dial(os.Getenv("HUB_URL"), token)
		go func() { // it always reads, so that the hub's pings are answered
			for answer := []byte("connected"); err == nil; _, answer, err = hub.ReadMessage() {
				answers <- string(answer)
			}
			answers <- ""
		}()
		for answer := <-answers; answer != ""; answer = <-answers {
			if println(answer); answer[len(answer)-2] != '"' && answer != "connected" { // "ok", or refused values
				batch, answered = "", time.Now()
			}
			time.Sleep(time.Second / 10) // readings collect; what the hub cannot store now is sent again
			for batch == "" || len(readings) > 1 && len(batch) < 10_000 {
				batch += <-readings
			}
			if batch == "," {
				return
			}
			hub.WriteMessage(websocket.TextMessage, []byte("["+batch[1:]+"]"))
		}
	}
}
