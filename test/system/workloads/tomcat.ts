/** A server in Java. */
import { httpLoad } from './clients/http.ts';
import type { Workload } from './types.ts';

export function tomcat(): Workload {
  return {
    name: 'Tomcat (Java)', packages: ['tomcat10'], rate: 200,
    async setup({ sh }) {
      await sh(`sed -i 's/connectionTimeout="20000"/connectionTimeout="600000" maxKeepAliveRequests="-1"/' /etc/tomcat10/server.xml
echo '<%= request.getParameter("n") %>' >/var/lib/tomcat10/webapps/ROOT/echo.jsp
systemctl restart tomcat10
timeout 120 bash -c 'until exec 3<>/dev/tcp/127.0.0.1/8080 && printf "GET /echo.jsp?n=ready HTTP/1.0\\r\\n\\r\\n" >&3 && grep -q ready <&3; do sleep 1; done' 2>/dev/null || { journalctl -u tomcat10 --no-pager | tail -30; exit 1; }`);
    },
    load: ({ address }) => httpLoad(address, 8080, (word) => `/echo.jsp?n=${word}`),
  };
}
