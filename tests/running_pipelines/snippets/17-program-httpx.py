import httpx
import asyncio

async def main():
    async with httpx.AsyncClient() as client:
        # Simple pipeline run
        r = await client.post(
            "http://localhost:1416/my_pipeline/run",
            json={"query": "What is Haystack?"}
        )
        print(r.json())

        # Chat completion
        r = await client.post(
            "http://localhost:1416/v1/chat/completions",
            json={
                "model": "chat_pipeline",
                "messages": [{"role": "user", "content": "What is Haystack?"}]
            }
        )
        print(r.json())

asyncio.run(main())
